defmodule DSPyBridge.Wire do
  @moduledoc """
  The messages of the protocol, as pure functions: maps in, maps out, no process and no port.

  The client sends requests, and answers to host calls:

      %{"id" => 7, "command" => "forward", "args" => %{...}, "deadline_ms" => 5_000}
      %{"call" => "c3", "result" => 0.5}

  The daemon sends replies, events and host calls:

      %{"id" => 7, "result" => %{...}}
      %{"event" => "chunk", "id" => 7, "data" => %{...}}
      %{"call" => "c3", "target" => "metric", "name" => "f1", "args" => %{...}, "id" => 7}
      %{"cancel_call" => "c3"}

  `peek/1` reads from the head of a frame whom it concerns, without decoding the rest. So the
  process that owns the port only passes frames on, and each is decoded by the process it is for.
  """

  alias DSPyBridge.{Codec, Error}

  @typedoc "Ids of requests are integers of the client; ids of host calls are the daemon's."
  @type id :: integer() | String.t()

  @typedoc "Whom a frame concerns."
  @type head ::
          {:reply, id() | nil, :result | :error}
          | {:event, String.t(), id() | nil}
          | {:call, id()}
          | {:cancel_call, id()}

  @typedoc "A decoded message."
  @type message ::
          {:result, id(), term()}
          | {:error, id() | nil, Error.t()}
          | {:event, String.t(), id() | nil, map()}
          | {:call, map()}
          | {:cancel_call, id()}

  @envelope ~w(deadline_ms budget stream tenant lm trace parent)a

  @doc "The keys that a request may have beside `id`, `command` and `args`."
  @spec envelope_keys() :: [atom()]
  def envelope_keys, do: @envelope

  @doc """
  A request's map; keys of the envelope that are `nil` or `false` are left out.

      iex> DSPyBridge.Wire.request(1, "ping", %{}, tenant: "acme", lm: nil)
      %{id: 1, command: "ping", args: %{}, tenant: "acme"}

  """
  @spec request(id(), String.t(), map(), keyword()) :: map()
  def request(id, command, args, envelope \\ []) do
    Enum.reduce(envelope, %{id: id, command: command, args: args}, fn
      {_key, unset}, request when unset in [nil, false] -> request
      {key, value}, request when key in @envelope -> Map.put(request, key, value)
    end)
  end

  @doc """
  The request that raises a connection to version 2, which has events and host calls.
  """
  @spec hello(id()) :: map()
  def hello(id) do
    version = to_string(Application.spec(:dspy_bridge, :vsn) || "0")
    client = %{name: "dspy_bridge (Elixir)", version: version}
    request(id, "hello", %{protocol: [2], client: client, accepts: ["events", "calls"]})
  end

  @doc """
  The answer to a host call.

      iex> DSPyBridge.Wire.answer("c3", {:ok, 0.5})
      %{call: "c3", result: 0.5}

      iex> DSPyBridge.Wire.answer("c3", {:error, "no such page"})
      %{call: "c3", error: %{code: "host_error", message: "no such page"}}

  An error of the bridge's own kind keeps its code: of an LM, `:lm_rate_limited` is tried again.

      iex> error = DSPyBridge.Error.new(:lm_rate_limited, "slowly", retry_after_ms: 500)
      iex> DSPyBridge.Wire.answer("c3", {:error, error}).error
      %{code: :lm_rate_limited, message: "slowly", retriable: true, retry_after_ms: 500, details: %{}}

  """
  @spec answer(id(), {:ok, term()} | {:error, String.t() | Error.t()}) :: map()
  def answer(call, {:ok, result}), do: %{call: call, result: result}
  def answer(call, {:error, %Error{} = error}), do: %{call: call, error: Error.to_wire(error)}

  def answer(call, {:error, message}),
    do: %{call: call, error: %{code: "host_error", message: message}}

  @doc """
  Whom a frame concerns, read from its first bytes.

  `:unknown` when the keys come in an order that the daemon does not write: `head/1` of the decoded
  message tells it then.

      iex> DSPyBridge.Wire.peek(~s({"id":7,"result":{"answer":"Paris"}}))
      {:reply, 7, :result}

      iex> DSPyBridge.Wire.peek(<<0x82, 0xA2, "id", 7, 0xA5, "error", 0x80>>)
      {:reply, 7, :error}

      iex> DSPyBridge.Wire.peek(~s({"event":"ready","id":null,"data":{}}))
      {:event, "ready", nil}

      iex> DSPyBridge.Wire.peek(~s({"args":{},"call":1}))
      :unknown

  """
  @spec peek(binary()) :: head() | :unknown
  # MessagePack: a map of up to 15 keys, then a short string that is the first key.
  def peek(<<0x8::4, _::4, 0xA2, "id", rest::bits>>) do
    case msgpack_id(rest) do
      {:ok, id, <<0xA6, "result", _::bits>>} -> {:reply, id, :result}
      {:ok, id, <<0xA5, "error", _::bits>>} -> {:reply, id, :error}
      _ -> :unknown
    end
  end

  def peek(<<0x8::4, _::4, 0xA5, "event", 0b101::3, n::5, event::binary-size(n), rest::bits>>) do
    with <<0xA2, "id", rest::bits>> <- rest, {:ok, id, _} <- msgpack_id(rest) do
      {:event, event, id}
    else
      _ -> :unknown
    end
  end

  def peek(<<0x8::4, _::4, 0xA4, "call", rest::bits>>),
    do:
      with(
        {:ok, id, _} when id != nil <- msgpack_id(rest),
        do: {:call, id},
        else: (_ -> :unknown)
      )

  def peek(<<0x8::4, _::4, 0xAB, "cancel_call", rest::bits>>) do
    with {:ok, id, ""} when id != nil <- msgpack_id(rest),
         do: {:cancel_call, id},
         else: (_ -> :unknown)
  end

  # JSON, as the daemon writes it: no space between the tokens.
  def peek(<<"{\"id\":", rest::bits>>) do
    case json_id(rest) do
      {:ok, id, <<",\"result\":", _::bits>>} -> {:reply, id, :result}
      {:ok, id, <<",\"error\":", _::bits>>} -> {:reply, id, :error}
      _ -> :unknown
    end
  end

  def peek(<<"{\"event\":", rest::bits>>) do
    with {:ok, event, <<",\"id\":", rest::bits>>} when is_binary(event) <- json_id(rest),
         {:ok, id, _} <- json_id(rest) do
      {:event, event, id}
    else
      _ -> :unknown
    end
  end

  def peek(<<"{\"call\":", rest::bits>>),
    do: with({:ok, id, _} when id != nil <- json_id(rest), do: {:call, id}, else: (_ -> :unknown))

  def peek(<<"{\"cancel_call\":", rest::bits>>) do
    with {:ok, id, "}"} when id != nil <- json_id(rest),
         do: {:cancel_call, id},
         else: (_ -> :unknown)
  end

  def peek(_frame), do: :unknown

  @doc """
  The message in a decoded map.

      iex> DSPyBridge.Wire.message(%{"id" => 7, "result" => %{"pong" => true}})
      {:ok, {:result, 7, %{"pong" => true}}}

  """
  @spec message(map()) :: {:ok, message()} | {:error, Error.t()}
  def message(%{"event" => event, "data" => data} = map) when is_binary(event),
    do: {:ok, {:event, event, map["id"], data}}

  def message(%{"call" => _, "target" => _, "name" => _, "args" => _} = map),
    do: {:ok, {:call, map}}

  def message(%{"cancel_call" => call}), do: {:ok, {:cancel_call, call}}

  def message(%{"error" => error} = map) when is_map(error) or is_binary(error),
    do: {:ok, {:error, map["id"], Error.from_wire(error)}}

  def message(%{"id" => id, "result" => result}), do: {:ok, {:result, id, result}}

  def message(map) do
    keys = map |> Map.keys() |> Enum.take(5) |> Enum.join(", ")
    {:error, Error.new(:invalid_message, "a message with the keys #{keys}")}
  end

  @doc "Whom a decoded message concerns."
  @spec head(message()) :: head()
  def head({:result, id, _result}), do: {:reply, id, :result}
  def head({:error, id, _error}), do: {:reply, id, :error}
  def head({:event, event, id, _data}), do: {:event, event, id}
  def head({:call, %{"call" => call}}), do: {:call, call}
  def head({:cancel_call, call}), do: {:cancel_call, call}

  @doc "The message in a frame."
  @spec decode(module(), binary()) :: {:ok, message()} | {:error, Error.t()}
  def decode(codec, frame) do
    with {:ok, map} <- Codec.decode(codec_of(frame, codec), frame), do: message(map)
  end

  # A reply has the codec of its request, but what no request caused may have another.
  defp codec_of(<<first, _::bits>>, _chosen) when first in 0x80..0x8F or first in 0xDE..0xDF,
    do: Codec.MessagePack

  defp codec_of(_frame, chosen), do: chosen

  defp msgpack_id(<<0::1, id::7, rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xCC, id::8, rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xCD, id::16, rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xCE, id::32, rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xCF, id::64, rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xC0, rest::bits>>), do: {:ok, nil, rest}
  defp msgpack_id(<<0b101::3, n::5, id::binary-size(n), rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(<<0xD9, n::8, id::binary-size(n), rest::bits>>), do: {:ok, id, rest}
  defp msgpack_id(_rest), do: :unknown

  defp json_id(<<"null", rest::bits>>), do: {:ok, nil, rest}
  defp json_id(<<?", rest::bits>>), do: json_text(rest, rest, 0)
  defp json_id(<<digit, _::bits>> = rest) when digit in ?0..?9, do: json_int(rest, 0)
  defp json_id(_rest), do: :unknown

  defp json_int(<<digit, rest::bits>>, int) when digit in ?0..?9,
    do: json_int(rest, int * 10 + digit - ?0)

  defp json_int(rest, int), do: {:ok, int, rest}

  # Only text without an escape: the daemon's own names and ids have none.
  defp json_text(<<?", rest::bits>>, text, length),
    do: {:ok, binary_part(text, 0, length), rest}

  defp json_text(<<char, rest::bits>>, text, length) when char != ?\\ and length < 255,
    do: json_text(rest, text, length + 1)

  defp json_text(_rest, _text, _length), do: :unknown
end
