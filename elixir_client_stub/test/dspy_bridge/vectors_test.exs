defmodule DSPyBridge.VectorsTest do
  # The golden frames of the project, read by the client's own modules: `tests/vectors.json` says
  # what they are, and the daemon's side is held to the same file. Each test gives the names of the
  # cases that fail it. Every codec whose library is loaded is held to it, not only the chosen one.
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Error, Wire}

  @file_name Path.expand("../../../tests/vectors.json", __DIR__)
  @codecs %{
    "json" => [Codec.Jiffy, Codec.JSON, Codec.OTPJSON, Codec.Jason],
    "msgpack" => [Codec.MessagePack, Codec.Msgpax]
  }
  @available Map.new(@codecs, fn {format, codecs} ->
               {format, Enum.filter(codecs, & &1.available?())}
             end)
  @json List.first(@available["json"])

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
    assert failing(cases, fn golden, codec ->
             Codec.decode(codec, payload(golden)) === {:ok, meant(golden["message"])}
           end) == []
  end

  test "every frame of the daemon is taken as the message it is", %{to_host: cases} do
    assert failing(cases, fn golden, codec ->
             Wire.decode(codec, payload(golden)) === {:ok, expected(meant(golden["message"]))}
           end) == []
  end

  test "whom a frame concerns is read from its head, without decoding it", %{to_host: cases} do
    assert failing(cases, fn golden, codec ->
             {:ok, message} = Wire.decode(codec, payload(golden))
             Wire.peek(payload(golden)) === Wire.head(message)
           end) == []
  end

  test "every message, in either direction, is written so that it reads the same", context do
    assert failing(context.cases, fn golden, codec ->
             wanted = meant(golden["message"])
             {:ok, frame} = Codec.encode(codec, wanted)
             Codec.decode(codec, IO.iodata_to_binary(frame)) === {:ok, wanted}
           end) == []
  end

  test "every bad frame is refused with its code", %{bad: bad} do
    wrong =
      for golden <- bad,
          codec <- @available["json"],
          found = Wire.decode(codec, payload(golden)),
          not match?({:error, %Error{}}, found) or
            Atom.to_string(elem(found, 1).code) != golden["code"],
          do: {golden["name"], codec}

    assert wrong == []
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

  defp failing(cases, right?) do
    for golden <- cases,
        codec <- @available[golden["codec"]],
        not right?.(golden, codec),
        do: {golden["name"], codec}
  end

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
