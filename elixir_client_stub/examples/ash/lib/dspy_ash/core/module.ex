defmodule DSPyAsh.Core.Module do
  @moduledoc """
  A DSPy module: a type, a signature, a config, and what it has learned.

  `state` is `%{"instructions" => …, "demos" => […]}`, as an optimizer run gives it and as the
  daemon takes it again.
  """

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy]

    create :create do
      primary? true
      accept [:name, :type, :config, :tools, :state]

      argument :signature_id, :uuid

      change manage_relationship(:signature_id, :signature, type: :append)
      change DSPyAsh.Core.Changes.SendModule
    end

    update :update do
      primary? true
      accept [:name, :config, :tools, :state]
      require_atomic? false
      change DSPyAsh.Core.Changes.SendModule
    end

    update :learn do
      description "Keeps what an optimizer run has taught this module."
      accept [:state]
    end

    action :forward, :map do
      description "Calls the module; the result is its output fields by name."
      argument :id, :uuid, allow_nil?: false
      argument :inputs, :map, allow_nil?: false
      argument :config, :map, default: %{}

      run DSPyAsh.Core.Actions.Forward
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    uuid_primary_key :id

    attribute :tenant, :string, allow_nil?: false
    attribute :name, :string, allow_nil?: false, public?: true

    attribute :type, :atom do
      allow_nil? false
      public? true

      constraints one_of: [
                    :predict,
                    :chain_of_thought,
                    :program_of_thought,
                    :react,
                    :react_v2,
                    :multi_chain_comparison,
                    :best_of_n,
                    :refine,
                    :retrieve,
                    :custom
                  ]
    end

    attribute :config, :map, default: %{}, public?: true
    attribute :state, :map, default: %{}, public?: true

    attribute :tools, {:array, :map} do
      description "`%{name, description, parameters}` each; the function of that name answers."
      default []
      public? true
    end

    timestamps()
  end

  relationships do
    belongs_to :signature, DSPyAsh.Core.Signature, public?: true
    has_many :traces, DSPyAsh.Core.Trace
  end

  @doc "The module as `create_module` takes it; its signature must be loaded."
  def to_spec(module) do
    given = %{
      id: module.id,
      type: module.type,
      signature: module.signature && DSPyAsh.Core.Signature.to_wire(module.signature),
      config: module.config,
      state: module.state,
      tools: module.tools
    }

    # What is empty is left out: not every type takes every key.
    Map.reject(given, fn {_key, value} -> value in [nil, %{}, []] end)
  end
end
