defmodule DSPyBridge.CodecTest do
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Secret}
  alias DSPyBridge.Codec.{MessagePack, Plain}
  alias DSPyBridge.Test.Terms

  doctest DSPyBridge.Codec
  doctest DSPyBridge.Codec.MessagePack
  doctest DSPyBridge.Codec.Plain

  @codecs [
    DSPyBridge.Codec.MessagePack,
    DSPyBridge.Codec.Msgpax,
    DSPyBridge.Codec.Jiffy,
    DSPyBridge.Codec.JSON,
    DSPyBridge.Codec.OTPJSON,
    DSPyBridge.Codec.Jason
  ]

  for codec <- @codecs, codec.available?() do
    describe "#{inspect(codec)}" do
      @codec codec

      test "reads what it wrote, whatever the values" do
        for seed <- 1..300 do
          map = Terms.map(seed)
          assert back(@codec, map) == map, "seed #{seed}"
        end
      end

      test "makes keys and atoms strings, and never an atom of what comes back" do
        assert back(@codec, %{kind: :note, none: nil, yes: true, no: false, ids: %{5 => "x"}}) ==
                 %{
                   "kind" => "note",
                   "none" => nil,
                   "yes" => true,
                   "no" => false,
                   "ids" => %{"5" => "x"}
                 }
      end

      test "writes dates, times, sets and structs with a text as plain values" do
        assert back(@codec, %{
                 day: ~D[2026-01-31],
                 at: ~U[2026-01-31 10:00:00Z],
                 local: ~N[2026-01-31 10:00:00],
                 time: ~T[10:00:00],
                 set: MapSet.new([1]),
                 version: Version.parse!("1.2.3"),
                 key: Secret.wrap("sk-1")
               }) == %{
                 "day" => "2026-01-31",
                 "at" => "2026-01-31T10:00:00Z",
                 "local" => "2026-01-31T10:00:00",
                 "time" => "10:00:00",
                 "set" => [1],
                 "version" => "1.2.3",
                 "key" => "sk-1"
               }
      end

      test "refuses what has no form on the wire, and says where it is" do
        for {value, path} <- [
              {%{a: [1, self()]}, "a.1"},
              {%{a: %{b: {1, 2}}}, "a.b"},
              {%{a: fn -> 1 end}, "a"},
              {%{a: ~r/x/}, "a"},
              {%{a: %{{1, 2} => 1}}, "a"}
            ] do
          assert {:error, error} = Codec.encode(@codec, value)
          assert error.code == :invalid_args
          assert [%{"path" => ^path}] = error.details["faults"]
        end
      end

      test "an unreadable frame is an error and no crash" do
        for frame <- ["", "{", <<0x81>>, <<0xC1>>, "nonsense", <<0x81, 0xA1, ?a>>, "{}x"] do
          assert {:error, %DSPyBridge.Error{code: :invalid_frame}} = Codec.decode(@codec, frame)
        end
      end
    end
  end

  test "a codec that is not there is refused with what to add" do
    for codec <- @codecs, not codec.available?() do
      name = codec |> Module.split() |> List.last()
      assert {:error, text} = Codec.choose(codec)
      assert text =~ "needs #{codec.needs()}", name
    end
  end

  describe "MessagePack" do
    test "writes the shortest form at every border of a size" do
      for {value, head} <- [
            {0, <<0>>},
            {127, <<0x7F>>},
            {128, <<0xCC, 128>>},
            {256, <<0xCD, 1, 0>>},
            {65_536, <<0xCE, 0, 1, 0, 0>>},
            {4_294_967_296, <<0xCF, 0, 0, 0, 1, 0, 0, 0, 0>>},
            {-1, <<0xFF>>},
            {-32, <<0xE0>>},
            {-33, <<0xD0, 0xDF>>},
            {-129, <<0xD1, 0xFF, 0x7F>>},
            {-32_769, <<0xD2, 0xFF, 0xFF, 0x7F, 0xFF>>},
            {-2_147_483_649, <<0xD3, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF>>},
            {1.5, <<0xCB, 1.5::float-64>>},
            {String.duplicate("a", 31), <<0xBF>>},
            {String.duplicate("a", 32), <<0xD9, 32>>},
            {String.duplicate("a", 256), <<0xDA, 1, 0>>},
            {String.duplicate("a", 65_536), <<0xDB, 0, 1, 0, 0>>},
            {<<255>>, <<0xC4, 1, 255>>},
            {:binary.copy(<<255>>, 256), <<0xC5, 1, 0>>},
            {:binary.copy(<<255>>, 65_536), <<0xC6, 0, 1, 0, 0>>},
            {Enum.to_list(1..15), <<0x9F>>},
            {Enum.to_list(1..16), <<0xDC, 0, 16>>},
            {Enum.to_list(1..65_536), <<0xDD, 0, 1, 0, 0>>},
            {Map.new(1..15, &{"#{&1}", 1}), <<0x8F>>},
            {Map.new(1..16, &{"#{&1}", 1}), <<0xDE, 0, 16>>},
            {Map.new(1..65_536, &{"#{&1}", 1}), <<0xDF, 0, 1, 0, 0>>}
          ] do
        <<0x81, 0xA1, ?v, written::binary>> = written(%{v: value})
        assert binary_part(written, 0, byte_size(head)) == head
        assert %{"v" => ^value} = MessagePack.decode!(<<0x81, 0xA1, ?v, written::binary>>)
      end
    end

    test "an integer beyond 64 bits is a decimal string" do
      assert back(MessagePack, %{big: 2 ** 64, small: -(2 ** 63) - 1}) ==
               %{"big" => "18446744073709551616", "small" => "-9223372036854775809"}
    end

    test "reads a float of 32 bits, and numbers that the BEAM cannot hold as nil" do
      assert MessagePack.decode!(<<0x81, 0xA1, ?a, 0xCA, 0.5::float-32>>) == %{"a" => 0.5}
      nan = <<0x7FF8000000000000::64>>
      assert MessagePack.decode!(<<0x81, 0xA1, ?a, 0xCB, nan::binary>>) == %{"a" => nil}
    end

    test "a short string of a large frame does not keep the frame" do
      frame = written(%{short: "Paris", long: String.duplicate("x", 100_000)})
      %{"short" => short, "long" => long} = MessagePack.decode!(frame)
      assert :binary.referenced_byte_size(short) < 1_000
      assert :binary.referenced_byte_size(long) >= 100_000
    end

    test "every frame that is cut anywhere is refused" do
      frame = written(Terms.map(7))

      for size <- 0..(byte_size(frame) - 1) do
        assert {:error, _} = Codec.decode(MessagePack, binary_part(frame, 0, size))
      end
    end
  end

  test "plain values for a MessagePack library mark what is bytes" do
    assert Plain.msgpack(%{a: <<255>>, b: "x"}, &{:bytes, &1}) ==
             %{"a" => {:bytes, <<255>>}, "b" => "x"}
  end

  defp back(codec, map) do
    {:ok, frame} = Codec.encode(codec, map)
    {:ok, map} = Codec.decode(codec, IO.iodata_to_binary(frame))
    map
  end

  defp written(map), do: map |> MessagePack.encode!() |> IO.iodata_to_binary()
end
