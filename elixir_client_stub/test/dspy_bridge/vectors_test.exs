defmodule DSPyBridge.VectorsTest do
  # The golden frames of the project, read by the client's own modules: `tests/vectors.json` says
  # what they are, and the daemon's side is held to the same file. Each test gives the names of the
  # cases that fail it.
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Error, Wire}

  @file_name Path.expand("../../../tests/vectors.json", __DIR__)
  @json Enum.find([Codec.Jiffy, Codec.JSON, Codec.OTPJSON, Codec.Jason], & &1.available?())

  setup_all do
    assert @json, "the file is JSON: jiffy, Jason, Elixir 1.18 or OTP 27 is needed to read it"
    %{"cases" => cases, "bad" => bad} = @json.decode!(File.read!(@file_name))
    to = &Enum.filter(&1, fn %{"direction" => direction} -> direction == &2 end)
    %{cases: cases, to_host: to.(cases, "to_host"), bad: to.(bad, "to_host")}
  end

  test "the file has cases of every kind, in both codecs", %{to_host: cases, bad: bad} do
    kinds = for golden <- cases, do: {kind(golden["message"]), golden["codec"]}

    for kind <- ~w(event call cancel_call error result),
        codec <- ~w(json msgpack),
        do: assert({kind, codec} in kinds)

    assert length(bad) > 10
  end

  test "every frame of the daemon decodes to its message", %{to_host: cases} do
    assert failing(cases, fn golden ->
             Codec.decode(codec(golden), payload(golden)) === {:ok, meant(golden["message"])}
           end) == []
  end

  test "every frame of the daemon is taken as the message it is", %{to_host: cases} do
    assert failing(cases, fn golden ->
             Wire.decode(@json, payload(golden)) === {:ok, expected(meant(golden["message"]))}
           end) == []
  end

  test "whom a frame concerns is read from its head, without decoding it", %{to_host: cases} do
    assert failing(cases, fn golden ->
             {:ok, message} = Wire.decode(@json, payload(golden))
             Wire.peek(payload(golden)) === Wire.head(message)
           end) == []
  end

  test "every message, in either direction, is written so that it reads the same", context do
    assert failing(context.cases, fn golden ->
             wanted = meant(golden["message"])
             {:ok, frame} = Codec.encode(codec(golden), wanted)
             Codec.decode(codec(golden), IO.iodata_to_binary(frame)) === {:ok, wanted}
           end) == []
  end

  test "every bad frame is refused with its code", %{bad: bad} do
    assert failing(bad, fn golden ->
             match?({:error, %Error{}}, Wire.decode(@json, payload(golden))) and
               golden["code"] ==
                 Atom.to_string(elem(Wire.decode(@json, payload(golden)), 1).code)
           end) == []
  end

  test "every code of the daemon is a code here", %{to_host: cases} do
    codes =
      for %{"version" => 2, "message" => %{"error" => %{"code" => code}}} <- cases,
          uniq: true,
          do: code

    unknown = codes -- Enum.map(Error.codes(), &Atom.to_string/1)
    assert unknown == []
    assert length(codes) > 20
  end

  defp failing(cases, right?), do: for(golden <- cases, not right?.(golden), do: golden["name"])

  defp codec(%{"codec" => "json"}), do: @json
  defp codec(%{"codec" => "msgpack"}), do: Codec.MessagePack

  defp payload(%{"hex" => hex}) do
    <<size::32, payload::binary>> = Base.decode16!(hex, case: :lower)
    ^size = byte_size(payload)
    payload
  end

  defp meant(%{"$bytes" => base64} = map) when map_size(map) == 1, do: Base.decode64!(base64)
  defp meant(%{} = map), do: Map.new(map, fn {key, value} -> {key, meant(value)} end)
  defp meant(list) when is_list(list), do: Enum.map(list, &meant/1)
  defp meant(value), do: value

  defp kind(message),
    do: Enum.find(~w(event call cancel_call error result), &is_map_key(message, &1))

  defp expected(%{"event" => event} = map), do: {:event, event, map["id"], map["data"]}
  defp expected(%{"call" => _} = map), do: {:call, map}
  defp expected(%{"cancel_call" => call}), do: {:cancel_call, call}
  defp expected(%{"error" => error} = map), do: {:error, map["id"], Error.from_wire(error)}
  defp expected(%{"result" => result} = map), do: {:result, map["id"], result}
end
