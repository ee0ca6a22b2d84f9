defmodule DSPyAsh.Core.Changes.SendModule do
  @moduledoc """
  Has the daemon check a module before it is kept: a wrong type, signature or config is refused here
  and not at the first call.
  """

  use Ash.Resource.Change

  alias DSPyAsh.Specs

  @impl true
  def change(changeset, _opts, context) do
    Ash.Changeset.after_action(changeset, fn _changeset, module ->
      with {:ok, loaded} <- Ash.load(module, :signature, Specs.options(context)),
           {:ok, _} <- Specs.send_module(loaded, context) do
        {:ok, module}
      end
    end)
  end
end
