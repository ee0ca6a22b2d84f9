defmodule DSPyAsh.Core.Actions.Forward do
  @moduledoc "Calls a module; its row is the spec."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.{Bridge, Specs}

  @impl true
  def run(%{arguments: arguments}, _opts, context) do
    with {:ok, module} <- Specs.module(arguments.id, context),
         {:ok, _} <- Specs.send_module(module, context),
         {:ok, outputs} <- Bridge.forward(module.id, arguments.inputs, arguments.config, context) do
      {:ok, Map.delete(outputs, "_meta")}
    end
  end
end
