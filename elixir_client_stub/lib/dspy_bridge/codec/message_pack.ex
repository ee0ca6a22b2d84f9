defmodule DSPyBridge.Codec.MessagePack do
  @moduledoc """
  [MessagePack](https://msgpack.org), the codec that the client brings with it.

  It is the daemon's own choice as well: binaries need no base64, and text is not escaped. A binary
  that is UTF-8 is written as `str`, another as `bin`; an integer beyond 64 bits is written as a
  decimal string. Extension types are not part of this wire and are refused.

      iex> alias DSPyBridge.Codec.MessagePack
      iex> frame = IO.iodata_to_binary(MessagePack.encode!(%{id: 1, command: "ping"}))
      iex> MessagePack.decode!(frame)
      %{"id" => 1, "command" => "ping"}

  """

  @behaviour DSPyBridge.Codec

  alias DSPyBridge.Codec.Plain

  # A short string that refers into a large frame keeps all of it in memory: in frames above this
  # size every string is copied that is less than half of the frame.
  @copy_above 65_536

  @impl true
  def available?, do: true

  @impl true
  def needs, do: "nothing"

  @impl true
  def encode!(map) when is_map(map), do: encode(map, [])

  @impl true
  def decode!(frame) when is_binary(frame) do
    copied = if byte_size(frame) > @copy_above, do: div(byte_size(frame), 2), else: 0

    case value(frame, copied) do
      {value, ""} -> value
      {_value, rest} -> raise ArgumentError, "#{byte_size(rest)} bytes follow the map"
    end
  end

  ## Encoding: the formats of the specification, the shortest that fits

  defp encode(nil, _path), do: 0xC0
  defp encode(false, _path), do: 0xC2
  defp encode(true, _path), do: 0xC3
  defp encode(atom, path) when is_atom(atom), do: encode(Atom.to_string(atom), path)
  defp encode(int, _path) when is_integer(int), do: integer(int)
  defp encode(float, _path) when is_float(float), do: <<0xCB, float::float-64>>

  defp encode(binary, _path) when is_binary(binary),
    do: if(String.valid?(binary), do: string(binary), else: bytes(binary))

  defp encode([], _path), do: 0x90

  defp encode(list, path) when is_list(list),
    do: [list_head(length(list)) | items(list, 0, path)]

  defp encode(map, path) when is_map(map) and not is_struct(map),
    do: [map_head(map_size(map)) | pairs(:maps.next(:maps.iterator(map)), path)]

  defp encode(other, path), do: encode(Plain.plainer(other, path), path)

  defp items([], _index, _path), do: []

  defp items([value | rest], index, path),
    do: [encode(value, [index | path]) | items(rest, index + 1, path)]

  defp pairs(:none, _path), do: []

  defp pairs({key, value, iterator}, path) do
    key = Plain.key(key, path)
    [string(key), encode(value, [key | path]) | pairs(:maps.next(iterator), path)]
  end

  defp integer(int) when int in 0..0x7F, do: int
  defp integer(int) when int in -32..-1, do: <<int::8>>
  defp integer(int) when int in 0..0xFF, do: <<0xCC, int::8>>
  defp integer(int) when int in 0..0xFFFF, do: <<0xCD, int::16>>
  defp integer(int) when int in 0..0xFFFFFFFF, do: <<0xCE, int::32>>
  defp integer(int) when int in 0..0xFFFFFFFFFFFFFFFF, do: <<0xCF, int::64>>
  defp integer(int) when int in -0x80..-1, do: <<0xD0, int::8>>
  defp integer(int) when int in -0x8000..-1, do: <<0xD1, int::16>>
  defp integer(int) when int in -0x80000000..-1, do: <<0xD2, int::32>>
  defp integer(int) when int in -0x8000000000000000..-1, do: <<0xD3, int::64>>
  defp integer(int), do: string(Integer.to_string(int))

  defp string(text) when byte_size(text) < 32, do: [<<0b101::3, byte_size(text)::5>>, text]
  defp string(text) when byte_size(text) <= 0xFF, do: [<<0xD9, byte_size(text)::8>>, text]
  defp string(text) when byte_size(text) <= 0xFFFF, do: [<<0xDA, byte_size(text)::16>>, text]
  defp string(text), do: [<<0xDB, byte_size(text)::32>>, text]

  defp bytes(data) when byte_size(data) <= 0xFF, do: [<<0xC4, byte_size(data)::8>>, data]
  defp bytes(data) when byte_size(data) <= 0xFFFF, do: [<<0xC5, byte_size(data)::16>>, data]
  defp bytes(data), do: [<<0xC6, byte_size(data)::32>>, data]

  defp list_head(count) when count < 16, do: <<0b1001::4, count::4>>
  defp list_head(count) when count <= 0xFFFF, do: <<0xDC, count::16>>
  defp list_head(count), do: <<0xDD, count::32>>

  defp map_head(count) when count < 16, do: <<0b1000::4, count::4>>
  defp map_head(count) when count <= 0xFFFF, do: <<0xDE, count::16>>
  defp map_head(count), do: <<0xDF, count::32>>

  ## Decoding: each clause gives a value and the rest of the frame

  defp value(<<0::1, int::7, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0b101::3, n::5, text::binary-size(n), rest::bits>>, c), do: {text(text, c), rest}
  defp value(<<0b1000::4, count::4, rest::bits>>, copied), do: map(count, rest, copied, [])
  defp value(<<0b1001::4, count::4, rest::bits>>, copied), do: list(count, rest, copied, [])
  defp value(<<0b111::3, int::5, rest::bits>>, _copied), do: {int - 32, rest}
  defp value(<<0xC0, rest::bits>>, _copied), do: {nil, rest}
  defp value(<<0xC2, rest::bits>>, _copied), do: {false, rest}
  defp value(<<0xC3, rest::bits>>, _copied), do: {true, rest}
  defp value(<<0xCB, float::float-64, rest::bits>>, _copied), do: {float, rest}
  defp value(<<0xCA, float::float-32, rest::bits>>, _copied), do: {float, rest}
  # NaN and the infinities, which the BEAM cannot hold.
  defp value(<<0xCB, _::64, rest::bits>>, _copied), do: {nil, rest}
  defp value(<<0xCA, _::32, rest::bits>>, _copied), do: {nil, rest}
  defp value(<<0xCC, int::8, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xCD, int::16, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xCE, int::32, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xCF, int::64, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xD0, int::signed-8, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xD1, int::signed-16, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xD2, int::signed-32, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xD3, int::signed-64, rest::bits>>, _copied), do: {int, rest}
  defp value(<<0xD9, n::8, text::binary-size(n), rest::bits>>, c), do: {text(text, c), rest}
  defp value(<<0xDA, n::16, text::binary-size(n), rest::bits>>, c), do: {text(text, c), rest}
  defp value(<<0xDB, n::32, text::binary-size(n), rest::bits>>, c), do: {text(text, c), rest}
  defp value(<<0xC4, n::8, data::binary-size(n), rest::bits>>, c), do: {text(data, c), rest}
  defp value(<<0xC5, n::16, data::binary-size(n), rest::bits>>, c), do: {text(data, c), rest}
  defp value(<<0xC6, n::32, data::binary-size(n), rest::bits>>, c), do: {text(data, c), rest}
  defp value(<<0xDC, count::16, rest::bits>>, copied), do: list(count, rest, copied, [])
  defp value(<<0xDD, count::32, rest::bits>>, copied), do: list(count, rest, copied, [])
  defp value(<<0xDE, count::16, rest::bits>>, copied), do: map(count, rest, copied, [])
  defp value(<<0xDF, count::32, rest::bits>>, copied), do: map(count, rest, copied, [])

  defp value(<<byte, _rest::bits>>, _copied),
    do:
      raise(ArgumentError, "no value begins with 0x#{Integer.to_string(byte, 16)}, or it is cut")

  defp value("", _copied), do: raise(ArgumentError, "the frame ends within a value")

  defp text(text, copied) when byte_size(text) < copied, do: :binary.copy(text)
  defp text(text, _copied), do: text

  defp list(0, rest, _copied, items), do: {:lists.reverse(items), rest}

  defp list(count, rest, copied, items) do
    {item, rest} = value(rest, copied)
    list(count - 1, rest, copied, [item | items])
  end

  defp map(0, rest, _copied, pairs), do: {:maps.from_list(:lists.reverse(pairs)), rest}

  defp map(count, rest, copied, pairs) do
    {key, rest} = value(rest, copied)
    true = is_binary(key)
    {value, rest} = value(rest, copied)
    map(count - 1, rest, copied, [{key, value} | pairs])
  end
end
