defmodule DSPyBridge.WireTest do
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Wire}
  alias DSPyBridge.Codec.MessagePack

  doctest DSPyBridge.Wire
  doctest DSPyBridge.Error
  doctest DSPyBridge.Secret
  doctest DSPyBridge.Restarts
  doctest DSPyBridge.Callbacks
  doctest DSPyBridge.Options

  # As the daemon writes them: these keys in this order.
  @messages [
    {[id: 7, result: %{"answer" => "Paris"}], {:reply, 7, :result}},
    {[id: 300, error: %{"code" => "busy"}], {:reply, 300, :error}},
    {[id: 70_000, result: nil], {:reply, 70_000, :result}},
    {[id: 5_000_000_000, result: []], {:reply, 5_000_000_000, :result}},
    {[id: "a-7", result: 1], {:reply, "a-7", :result}},
    {[id: nil, error: "invalid_frame: x"], {:reply, nil, :error}},
    {[event: "chunk", id: 7, data: %{"text" => "\"id\":8"}], {:event, "chunk", 7}},
    {[event: "ready", id: nil, data: %{}], {:event, "ready", nil}},
    {[call: "c3", target: "tool", name: "search", args: %{}, id: 7], {:call, "c3"}},
    {[call: 3, target: "metric", name: "f1", args: %{}, id: nil], {:call, 3}},
    {[cancel_call: "c3"], {:cancel_call, "c3"}},
    {[cancel_call: 3], {:cancel_call, 3}}
  ]

  for {{pairs, head}, number} <- Enum.with_index(@messages) do
    @pairs pairs
    @wanted head

    test "message #{number}: the head of #{inspect(head)} is read from its first bytes" do
      assert Wire.peek(json(@pairs)) == @wanted
      assert Wire.peek(msgpack(@pairs)) == @wanted
    end

    test "message #{number}: the whole message of #{inspect(head)} tells the same" do
      for frame <- [msgpack(@pairs), msgpack(Enum.reverse(@pairs))] do
        assert {:ok, message} = Wire.decode(MessagePack, frame)
        assert Wire.head(message) == @wanted
      end
    end
  end

  test "keys in another order are never misread from the first bytes" do
    for {pairs, head} <- @messages,
        frame <- [json(Enum.reverse(pairs)), msgpack(Enum.reverse(pairs))] do
      assert Wire.peek(frame) in [:unknown, head]
    end
  end

  test "no frame is misread because it is cut or is none" do
    for {pairs, head} <- @messages,
        frame <- [json(pairs), msgpack(pairs)],
        size <- 0..(byte_size(frame) - 1) do
      assert Wire.peek(binary_part(frame, 0, size)) in [:unknown, head]
    end
  end

  test "what is no message of the daemon is an error that names its keys" do
    assert {:error, error} = Wire.message(%{"foo" => 1})
    assert error.code == :invalid_message
    assert error.message =~ "foo"
  end

  test "a host call's answer is a result or an error" do
    assert Wire.answer(3, {:ok, nil}) == %{call: 3, result: nil}
    assert %{error: %{code: "host_error"}} = Wire.answer(3, {:error, "no"})
  end

  defp json_codec,
    do: Enum.find([Codec.Jiffy, Codec.JSON, Codec.OTPJSON], & &1.available?())

  defp json(pairs) do
    body =
      Enum.map_join(pairs, ",", fn {key, value} ->
        ~s("#{key}":) <> IO.iodata_to_binary(json_value(value))
      end)

    "{" <> body <> "}"
  end

  defp json_value(value) do
    <<"{\"v\":", rest::binary>> = IO.iodata_to_binary(json_codec().encode!(%{v: value}))
    binary_part(rest, 0, byte_size(rest) - 1)
  end

  defp msgpack(pairs) do
    body =
      for {key, value} <- pairs do
        <<0x81, pair::binary>> = IO.iodata_to_binary(MessagePack.encode!(%{key => value}))
        pair
      end

    IO.iodata_to_binary([<<0x8::4, length(pairs)::4>> | body])
  end
end
