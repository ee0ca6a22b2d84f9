defmodule DSPyAsh.LM.Actions.Configure do
  @moduledoc "Sends an LM to the daemon, under its name and, if it is the default, as that."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.{Bridge, Specs}
  alias DSPyAsh.LM.Provider

  @impl true
  def run(input, _opts, context) do
    with {:ok, provider} <- Ash.get(Provider, input.arguments.id, Specs.options(context)) do
      lm = Provider.to_wire(provider)
      named = %{lms: %{provider.name => lm}}
      Bridge.configure(if(provider.is_default, do: Map.put(named, :lm, lm), else: named), context)
    end
  end
end
