defmodule DSPyAsh.Core.Actions.Compile do
  @moduledoc "Starts a run of an optimizer and performs it at once."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.{Core, Specs}

  @impl true
  def run(%{arguments: arguments}, _opts, context) do
    options = Specs.options(context)

    run = %{
      optimizer_id: arguments.id,
      program_id: arguments.program_id,
      trainset: arguments.trainset,
      valset: arguments[:valset],
      metric: arguments.metric
    }

    with {:ok, run} <- Core.start_run(run, options),
         {:ok, run} <- Core.perform_run(run, options),
         {:ok, run} <- finished(run),
         {:ok, program} <- Core.get_program(run.program_id, options) do
      {:ok,
       %{
         run_id: run.id,
         status: run.status,
         score: run.score,
         program: program,
         traces: run.traces
       }}
    end
  end

  defp finished(%{status: :failed} = run) do
    {:error, DSPyAsh.Error.exception(code: run.error_code, text: run.error)}
  end

  defp finished(run), do: {:ok, run}
end
