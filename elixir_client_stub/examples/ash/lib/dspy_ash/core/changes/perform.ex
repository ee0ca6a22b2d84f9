defmodule DSPyAsh.Core.Changes.Perform do
  @moduledoc """
  The work of an optimizer run.

  It is done before the row is written and outside of any transaction. Progress is written as it
  comes, by `:progress`. What was learned goes to the rows of the modules and of the program, and
  not into the daemon's registry (`keep: "new"`): these rows are what the next call sends.
  """

  use Ash.Resource.Change

  alias DSPyAsh.{Bridge, Core, Specs}
  alias DSPyAsh.Core.Optimizer

  @kept_statuses %{"completed" => :completed, "stopped" => :stopped}

  @impl true
  def change(changeset, _opts, context) do
    changeset
    |> Ash.Changeset.before_transaction(&perform(&1, context))
    |> Ash.Changeset.after_action(&learn(&1, &2, context))
  end

  defp perform(%{data: run} = changeset, context) do
    again? = run.started_at != nil

    with {:ok, run} <- begin(run, context),
         {:ok, result} <- optimize(run, again?, context) do
      changeset
      |> Ash.Changeset.force_change_attributes(found(result))
      |> Ash.Changeset.set_context(%{dspy_result: result})
    else
      {:error, %DSPyAsh.Error{code: :cancelled} = error} ->
        failed(changeset, :cancelled, error)

      {:error, %DSPyAsh.Error{retriable: true} = error} ->
        Ash.Changeset.add_error(changeset, error)

      {:error, %DSPyAsh.Error{} = error} ->
        failed(changeset, :failed, error)

      {:error, other} ->
        Ash.Changeset.add_error(changeset, other)
    end
  end

  defp begin(run, context) do
    run
    |> Ash.Changeset.for_update(
      :progress,
      %{status: :running, started_at: run.started_at || DateTime.utc_now()},
      Specs.options(context)
    )
    |> Ash.update()
  end

  defp optimize(run, again?, context) do
    options = Specs.options(context)

    with {:ok, run} <- Ash.load(run, [:optimizer, :program], options),
         {:ok, _} <- Specs.send_program(run.program, context) do
      resume_or_start(run, again?, context)
    end
  end

  # The daemon may never have heard of a run that was broken off: then it is begun.
  defp resume_or_start(run, true, context) do
    case Bridge.optimize(%{resume: run.id}, run.budget, on_progress(run, context), context) do
      {:error, %DSPyAsh.Error{code: :not_found}} -> resume_or_start(run, false, context)
      answer -> answer
    end
  end

  defp resume_or_start(run, false, context) do
    request = %{
      run_id: run.id,
      optimizer: Optimizer.wire_name(run.optimizer),
      config: run.optimizer.config,
      program_id: run.program_id,
      trainset: run.trainset,
      valset: run.valset,
      metric: run.metric,
      keep: "new"
    }

    request = Map.reject(request, fn {_key, value} -> value == nil end)
    Bridge.optimize(request, run.budget, on_progress(run, context), context)
  end

  defp on_progress(run, context) do
    options = Specs.options(context)

    fn data ->
      run
      |> Ash.Changeset.for_update(:progress, %{progress: data}, options)
      |> Ash.update!()
    end
  end

  defp found(result) do
    %{
      status: Map.get(@kept_statuses, result["status"], :completed),
      score: result["score"],
      baseline_score: result["baseline_score"],
      best_program_state: result["optimized_program"],
      traces: result["traces"] || [],
      stats: result["stats"] || %{},
      warnings: result["warnings"] || [],
      finished_at: DateTime.utc_now()
    }
  end

  defp failed(changeset, status, error) do
    Ash.Changeset.force_change_attributes(changeset, %{
      status: status,
      error: error.text,
      error_code: to_string(error.code),
      finished_at: DateTime.utc_now()
    })
  end

  # Modules and program learn in the transaction that closes the run.
  defp learn(changeset, run, context) do
    case changeset.context[:dspy_result] do
      nil -> {:ok, run}
      result -> with :ok <- teach(result, run.program_id, context), do: {:ok, run}
    end
  end

  defp teach(%{"optimized_program" => optimized} = result, program_id, context) do
    options = Specs.options(context)

    with :ok <- learn_modules(optimized["modules"] || %{}, options),
         {:ok, program} <- Core.get_program(program_id, options),
         metrics = %{"training_score" => result["score"], "stats" => result["stats"]},
         {:ok, _} <- Core.learn_program(program, optimized, metrics, options) do
      :ok
    end
  end

  defp learn_modules(states, options) do
    Enum.reduce_while(states, :ok, fn {id, learned}, :ok ->
      state = Map.take(learned, ["instructions", "demos", "predictors"])

      with {:ok, module} <- Core.get_module(id, options),
           {:ok, _} <- Core.learn_module(module, state, options) do
        {:cont, :ok}
      else
        error -> {:halt, error}
      end
    end)
  end
end
