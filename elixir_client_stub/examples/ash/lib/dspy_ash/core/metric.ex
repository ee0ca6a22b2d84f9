defmodule DSPyAsh.Core.Metric do
  @moduledoc """
  A metric, as the daemon takes it: a name (`"exact_match"`, `"f1_score"`, `"passage_match"`), or a
  map: `%{"name" => "exact_match", "field" => "answer"}`, `%{"host" => "my_metric"}` for a function
  of this application, `%{"lm" => "semantic_f1"}` for a judge.
  """

  use Ash.Type

  @impl true
  def storage_type(_constraints), do: :map

  @impl true
  def cast_input(nil, _constraints), do: {:ok, nil}
  def cast_input(name, _constraints) when is_binary(name), do: {:ok, %{"name" => name}}
  def cast_input(%{} = metric, _constraints), do: {:ok, Map.new(metric, &text_key/1)}
  def cast_input(_other, _constraints), do: :error

  @impl true
  def cast_stored(value, _constraints), do: {:ok, value}

  @impl true
  def dump_to_native(value, _constraints), do: {:ok, value}

  defp text_key({key, value}), do: {to_string(key), value}
end
