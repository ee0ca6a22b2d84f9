defmodule DSPyAsh.Core.Optimizer do
  @moduledoc "A way to teach programs, with its config; each use of it is an `OptimizationRun`."

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy, create: [:name, :type, :config], update: [:name, :config]]

    action :compile, :map do
      description """
      Teaches a program and waits for it: %{run_id, status, score, program, traces}.
      `DSPyAsh.Core.start_run` does the same without waiting.
      """

      argument :id, :uuid, allow_nil?: false
      argument :program_id, :uuid, allow_nil?: false
      argument :trainset, {:array, :map}, allow_nil?: false
      argument :valset, {:array, :map}
      argument :metric, DSPyAsh.Core.Metric, allow_nil?: false

      run DSPyAsh.Core.Actions.Compile
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
                    :bootstrap_fewshot,
                    :bootstrap_fewshot_with_optuna,
                    :mipro,
                    :copro,
                    :gepa,
                    :simba
                  ]
    end

    attribute :config, :map, default: %{}, public?: true

    timestamps()
  end

  relationships do
    has_many :optimization_runs, DSPyAsh.Core.OptimizationRun
  end

  @names %{gepa: "GEPA", simba: "SIMBA"}

  @doc "The name that the daemon knows the type by."
  def wire_name(%{type: type}), do: Map.get(@names, type, to_string(type))
end
