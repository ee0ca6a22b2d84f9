defmodule DSPyBridge.Codec.Plain do
  @moduledoc """
  The one set of rules for what an Elixir term becomes on the wire.

      iex> DSPyBridge.Codec.Plain.json(%{at: ~D[2026-01-31], kind: :note, raw: <<255>>})
      %{"at" => "2026-01-31", "kind" => "note", "raw" => "/w=="}

  """

  alias DSPyBridge.Secret

  @doc "Plain values for a JSON library. Throws `{:unencodable, path, text}`."
  @spec json(term()) :: term()
  def json(term), do: plain(term, [], &Base.encode64/1)

  @doc "Plain values for a MessagePack library; `bytes` makes its form of a binary that is no text."
  @spec msgpack(term(), (binary() -> term())) :: term()
  def msgpack(term, bytes), do: plain(term, [], bytes)

  @doc """
  What a struct, a tuple or another term that is not plain stands for: a plainer term.

  `path` is the way to the term, the last key first. Throws `{:unencodable, path, text}` when there
  is none.
  """
  @spec plainer(term(), [term()]) :: term()
  def plainer(%Secret{} = secret, _path), do: Secret.unwrap(secret)
  def plainer(%module{} = date, _path) when module in [Date, Time], do: module.to_iso8601(date)
  def plainer(%DateTime{} = time, _path), do: DateTime.to_iso8601(time)
  def plainer(%NaiveDateTime{} = time, _path), do: NaiveDateTime.to_iso8601(time)
  def plainer(%MapSet{} = set, _path), do: MapSet.to_list(set)

  def plainer(%module{} = struct, path) do
    if String.Chars.impl_for(struct),
      do: to_string(struct),
      else: refuse(path, "a #{inspect(module)} struct has no form on the wire; send a map")
  end

  def plainer(tuple, path) when is_tuple(tuple) do
    text = inspect(tuple, limit: 5, printable_limit: 50)
    refuse(path, "the tuple #{text} has no form on the wire; send a list or a map")
  end

  def plainer(other, path),
    do: refuse(path, "#{inspect(other)} has no form on the wire")

  @doc "A map key as a string."
  @spec key(term(), [term()]) :: String.t()
  def key(key, _path) when is_binary(key), do: key
  def key(key, _path) when is_atom(key), do: Atom.to_string(key)
  def key(key, _path) when is_integer(key), do: Integer.to_string(key)

  def key(key, path),
    do: refuse(path, "the key #{inspect(key, limit: 5)} is no string, atom or integer")

  defp plain(value, _path, _bytes) when value in [nil, true, false], do: value
  defp plain(value, _path, _bytes) when is_number(value), do: value
  defp plain(value, _path, _bytes) when is_atom(value), do: Atom.to_string(value)

  defp plain(value, _path, bytes) when is_binary(value),
    do: if(String.valid?(value), do: value, else: bytes.(value))

  defp plain([], _path, _bytes), do: []

  defp plain(list, path, bytes) when is_list(list) do
    for {value, index} <- Enum.with_index(list), do: plain(value, [index | path], bytes)
  end

  defp plain(map, path, bytes) when is_map(map) and not is_struct(map) do
    for {key, value} <- map, into: %{} do
      key = key(key, path)
      {key, plain(value, [key | path], bytes)}
    end
  end

  defp plain(other, path, bytes), do: plain(plainer(other, path), path, bytes)

  @spec refuse([term()], String.t()) :: no_return()
  defp refuse(path, text), do: throw({:unencodable, Enum.reverse(path), text})
end
