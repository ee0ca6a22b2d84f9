defmodule DSPyAsh.Core.OptimizationRun do
  @moduledoc """
  One use of an optimizer on a program, from `:pending` to what it found.

  `:start` only writes the row. `:perform` does the work, which may take hours; it is meant for a
  job, see the README. A run that was broken off (a deploy, a crash) and is performed again goes on
  where it was: what the LM has answered is on the daemon's disk, and is not paid for again.
  """

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:destroy]

    read :read do
      primary? true
      # A job goes through the rows that wait.
      pagination keyset?: true, required?: false
    end

    create :start do
      primary? true
      accept [:optimizer_id, :program_id, :trainset, :valset, :metric, :budget]
    end

    update :perform do
      description "Runs the optimizer to its end and keeps what was learned."
      accept []
      require_atomic? false
      # It waits for the daemon: a transaction would be open all the while.
      transaction? false
      change DSPyAsh.Core.Changes.Perform
    end

    update :progress do
      accept [:status, :progress, :started_at]
    end

    update :fail do
      description "Closes a run that a job has given up; `error` is what the last attempt failed of."
      accept []
      argument :error, :term
      require_atomic? false
      change set_attribute(:status, :failed)
      change set_attribute(:finished_at, &DateTime.utc_now/0)

      change fn changeset, _context ->
        case Ash.Changeset.get_argument(changeset, :error) do
          %{__exception__: true} = error ->
            Ash.Changeset.force_change_attribute(changeset, :error, Exception.message(error))

          _none ->
            changeset
        end
      end
    end

    update :stop do
      description "Asks the daemon to end the run; `:perform` then keeps the best so far."
      accept []
      require_atomic? false
      change DSPyAsh.Core.Changes.Stop
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    uuid_primary_key :id

    attribute :tenant, :string, allow_nil?: false

    attribute :status, :atom do
      constraints one_of: [:pending, :running, :completed, :stopped, :cancelled, :failed]
      allow_nil? false
      default :pending
      public? true
    end

    attribute :trainset, {:array, :map}, allow_nil?: false, public?: true
    attribute :valset, {:array, :map}, public?: true
    attribute :metric, DSPyAsh.Core.Metric, allow_nil?: false, public?: true
    attribute :budget, :map, default: %{}, public?: true

    attribute :progress, :map do
      description "The last progress event: %{phase, trial, trials, best_score, lm_calls, cost, …}."
      default %{}
      public? true
    end

    attribute :score, :float, public?: true
    attribute :baseline_score, :float, public?: true
    attribute :best_program_state, :map, public?: true
    attribute :traces, {:array, :map}, default: [], public?: true
    attribute :stats, :map, default: %{}, public?: true
    attribute :warnings, {:array, :string}, default: [], public?: true
    attribute :error, :string, public?: true
    attribute :error_code, :string, public?: true
    attribute :started_at, :utc_datetime_usec, public?: true
    attribute :finished_at, :utc_datetime_usec, public?: true

    timestamps()
  end

  relationships do
    belongs_to :optimizer, DSPyAsh.Core.Optimizer, allow_nil?: false, public?: true
    belongs_to :program, DSPyAsh.Core.Program, allow_nil?: false, public?: true
  end
end
