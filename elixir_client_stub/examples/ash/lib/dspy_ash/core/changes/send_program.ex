defmodule DSPyAsh.Core.Changes.SendProgram do
  @moduledoc "Has the daemon check a program's wiring before it is kept."

  use Ash.Resource.Change

  alias DSPyAsh.Specs

  @impl true
  def change(changeset, _opts, context) do
    Ash.Changeset.after_action(changeset, fn _changeset, program ->
      with {:ok, _} <- Specs.send_program(program, context), do: {:ok, program}
    end)
  end
end
