defmodule DSPyAsh.Core.Validations.SignatureFields do
  @moduledoc """
  That fields have a name and no name stands twice.

  Types are the daemon's business: it knows DSPy's, and says with a path what is wrong with one.
  """

  use Ash.Resource.Validation

  @impl true
  def validate(changeset, _opts, _context) do
    inputs = Ash.Changeset.get_argument(changeset, :inputs) || []
    outputs = Ash.Changeset.get_argument(changeset, :outputs) || []
    names = Enum.map(inputs ++ outputs, &(&1["name"] || &1[:name]))

    cond do
      outputs == [] ->
        {:error, field: :outputs, message: "a signature has an output"}

      not Enum.all?(names, &name?/1) ->
        {:error, field: :inputs, message: "every field has a name"}

      names != Enum.uniq(names) ->
        {:error, field: :inputs, message: "a name stands twice"}

      true ->
        :ok
    end
  end

  defp name?(name), do: (is_atom(name) and name != nil) or (is_binary(name) and name != "")
end
