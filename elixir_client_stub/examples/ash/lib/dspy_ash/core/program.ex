defmodule DSPyAsh.Core.Program do
  @moduledoc """
  Modules, and the way between them.

  The way is one of

    * nothing: the modules are a chain,
    * `steps`: data that the daemon runs,
    * `forward_fn`: Python source that the daemon runs in its sandbox,
    * `forward: :host`: a function of this application, see `DSPyAsh.Bridge`.

  Whichever it is, the program can be optimized.
  """

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy]

    create :create do
      primary? true
      accept [:id, :name, :description, :modules, :forward, :forward_fn, :steps, :signature]
      change DSPyAsh.Core.Changes.SendProgram
    end

    update :update do
      primary? true
      accept [:name, :description, :modules, :forward, :forward_fn, :steps, :signature]
      require_atomic? false
      change DSPyAsh.Core.Changes.SendProgram
    end

    update :learn do
      description "Keeps what an optimizer run has found."
      accept [:compiled_state]
      argument :metrics, :map, allow_nil?: false
      require_atomic? false

      change fn changeset, _context ->
        known = Ash.Changeset.get_attribute(changeset, :metrics) || %{}
        new = Ash.Changeset.get_argument(changeset, :metrics)
        Ash.Changeset.force_change_attribute(changeset, :metrics, Map.merge(known, new))
      end
    end

    action :execute, :map do
      description "Calls the program; the result is its output fields by name."
      argument :id, :uuid, allow_nil?: false
      argument :inputs, :map, allow_nil?: false
      argument :budget, :map, default: %{}
      argument :keep_traces?, :boolean, default: false

      run DSPyAsh.Core.Actions.Execute
    end

    action :evaluate, :map do
      description "Scores the program on examples: %{score, total, correct, errors, rows}."
      argument :id, :uuid, allow_nil?: false
      argument :devset, {:array, :map}, allow_nil?: false
      argument :metric, DSPyAsh.Core.Metric, allow_nil?: false

      run DSPyAsh.Core.Actions.Evaluate
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    # May be given: a function for `forward: :host` is registered under it before the row is there.
    uuid_primary_key :id, writable?: true

    attribute :tenant, :string, allow_nil?: false
    attribute :name, :string, allow_nil?: false, public?: true
    attribute :description, :string, public?: true

    attribute :modules, {:array, :map} do
      description "`%{id: …, name: …}` each: a module, and what the way calls it."
      default []
      public? true
    end

    attribute :forward, :atom, constraints: [one_of: [:host]], public?: true
    attribute :forward_fn, :string, public?: true
    attribute :steps, {:array, :map}, public?: true

    attribute :signature, :string do
      description "The program's own fields, `\"question -> answer\"`, where its modules do not tell."
      public? true
    end

    attribute :compiled_state, :map, public?: true
    attribute :metrics, :map, default: %{}, public?: true

    timestamps()
  end

  relationships do
    has_many :traces, DSPyAsh.Core.Trace
    has_many :optimization_runs, DSPyAsh.Core.OptimizationRun
  end

  @doc "The ids of the program's modules."
  def module_ids(%{modules: refs}), do: Enum.map(refs, &(&1["id"] || &1[:id]))

  @doc "The program as `create_program` takes it; `modules` are its `DSPyAsh.Core.Module` rows."
  def to_spec(program, modules) do
    by_id = Map.new(modules, &{&1.id, DSPyAsh.Core.Module.to_spec(&1)})

    given = %{
      id: program.id,
      modules:
        for ref <- program.modules do
          Map.put(by_id[ref["id"] || ref[:id]], :name, ref["name"] || ref[:name])
        end,
      forward: program.forward,
      forward_fn: program.forward_fn,
      steps: program.steps,
      signature: program.signature
    }

    Map.reject(given, fn {_key, value} -> value == nil end)
  end
end
