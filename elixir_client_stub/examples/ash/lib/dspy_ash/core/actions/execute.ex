defmodule DSPyAsh.Core.Actions.Execute do
  @moduledoc "Calls a program; keeps the LM calls as traces if it is asked to."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.{Bridge, Specs}
  alias DSPyAsh.Core.Trace

  @impl true
  def run(%{arguments: arguments}, _opts, context) do
    options = [budget: arguments.budget, trace: arguments.keep_traces?]

    with {:ok, program} <- Specs.program(arguments.id, context),
         {:ok, _} <- Specs.send_program(program, context),
         {:ok, outputs} <- Bridge.execute(program.id, arguments.inputs, options, context),
         {meta, outputs} = Map.pop(outputs, "_meta", %{}),
         :ok <- keep(meta["trace"] || [], program, context) do
      {:ok, outputs}
    end
  end

  defp keep([], _program, _context), do: :ok

  defp keep(rows, program, context) do
    result =
      rows
      |> Enum.map(&Trace.from_wire(&1, program.id))
      |> Ash.bulk_create(Trace, :create, Specs.options(context) ++ [return_errors?: true])

    case result do
      %Ash.BulkResult{status: :success} -> :ok
      %Ash.BulkResult{errors: errors} -> {:error, errors}
    end
  end
end
