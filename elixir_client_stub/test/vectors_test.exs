defmodule DSPyBridge.VectorsTest do
  # The golden frames of the project, read by the client's own modules: `../tests/vectors.json` says
  # what they are, and the daemon's side is held to the same file.
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Error, Wire}

  @file_name Path.expand("../../tests/vectors.json", __DIR__)
  @external_resource @file_name
  @json Enum.find([Codec.Jiffy, Codec.JSON, Codec.OTPJSON, Codec.Jason], & &1.available?())

  # Without any JSON library there is nothing to read the file with, let alone its JSON frames.
  if @json do
    golden = @json.decode!(File.read!(@file_name))

    for %{"name" => name} = golden_case <- golden["cases"] do
      @golden golden_case

      # What only a daemon is sent, and the client writes otherwise, it need not read.
      if golden_case["canonical"] do
        test "decodes #{name}" do
          assert {:ok, map} = Codec.decode(codec(@golden), payload(@golden))
          assert same?(map, meant(@golden["message"]))
        end
      end

      if golden_case["direction"] == "to_host" do
        test "takes #{name} as the message it is" do
          payload = payload(@golden)
          assert {:ok, message} = Wire.decode(@json, payload)
          assert same?(message, expected(meant(@golden["message"])))
          assert Wire.peek(payload) in [:unknown, Wire.head(message)]
        end
      else
        test "writes #{name} so that it reads the same" do
          wanted = meant(@golden["message"])
          assert {:ok, frame} = Codec.encode(codec(@golden), wanted)
          assert {:ok, map} = Codec.decode(codec(@golden), IO.iodata_to_binary(frame))
          assert same?(map, wanted)
        end
      end
    end

    for %{"direction" => "to_host", "name" => name} = bad <- golden["bad"] do
      @bad bad

      test "refuses #{name}" do
        assert {:error, %Error{code: code}} = Wire.decode(@json, payload(@bad))
        assert Atom.to_string(code) == @bad["code"]
      end
    end

    test "the head of every frame of the daemon is read without decoding it" do
      frames =
        for %{"direction" => "to_host", "canonical" => true} = golden <-
              unquote(Macro.escape(golden["cases"])),
            do: golden

      unread = for golden <- frames, Wire.peek(payload(golden)) == :unknown, do: golden["name"]
      assert unread == []
    end

    defp codec(%{"codec" => "json"}), do: @json
    defp codec(%{"codec" => "msgpack"}), do: Codec.MessagePack

    defp payload(%{"hex" => hex}) do
      <<size::32, payload::binary>> = Base.decode16!(hex, case: :lower)
      assert size == byte_size(payload)
      payload
    end

    defp meant(%{"$bytes" => base64} = map) when map_size(map) == 1, do: Base.decode64!(base64)
    defp meant(%{} = map), do: Map.new(map, fn {key, value} -> {key, meant(value)} end)
    defp meant(list) when is_list(list), do: Enum.map(list, &meant/1)
    defp meant(value), do: value

    # 1.0 and 1 are not the same, and bytes are compared as bytes.
    defp same?(one, other), do: one === other

    defp expected(%{"event" => event} = map), do: {:event, event, map["id"], map["data"]}
    defp expected(%{"call" => _} = map), do: {:call, map}
    defp expected(%{"cancel_call" => call}), do: {:cancel_call, call}
    defp expected(%{"error" => error} = map), do: {:error, map["id"], Error.from_wire(error)}
    defp expected(%{"result" => result} = map), do: {:result, map["id"], result}
  else
    test "needs a JSON library: jiffy, Jason, Elixir 1.18 or OTP 27" do
      flunk("no JSON library is loaded, so the golden frames were not read")
    end
  end
end
