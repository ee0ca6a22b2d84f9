defmodule DSPyAsh.Core.Actions.Evaluate do
  @moduledoc "Scores a program on examples, in the daemon, many at a time."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.{Bridge, Specs}

  @impl true
  def run(%{arguments: arguments}, _opts, context) do
    with {:ok, program} <- Specs.program(arguments.id, context),
         {:ok, _} <- Specs.send_program(program, context) do
      Bridge.evaluate(
        %{program_id: program.id, devset: arguments.devset, metric: arguments.metric},
        context
      )
    end
  end
end
