defmodule DSPyAsh.Core.Changes.Stop do
  @moduledoc """
  Asks the daemon to end a run early.

  The run's `:perform`, wherever it waits, is answered with the best so far and closes the row. A
  run that nobody has performed yet is closed here.
  """

  use Ash.Resource.Change

  alias DSPyAsh.Bridge

  @impl true
  def change(%{data: %{status: :pending}} = changeset, _opts, _context) do
    Ash.Changeset.force_change_attribute(changeset, :status, :cancelled)
  end

  def change(changeset, _opts, context) do
    Ash.Changeset.before_transaction(changeset, fn changeset ->
      case Bridge.run_stop(changeset.data.id, context) do
        {:ok, _} -> changeset
        {:error, error} -> Ash.Changeset.add_error(changeset, error)
      end
    end)
  end
end
