defmodule DSPyBridge.Exchange do
  @moduledoc false
  # One request and what comes of it, in the process that makes it.
  #
  # Registered before it is sent, and removed on every path: by the owner of the port when it passes
  # the reply on, when it is told that the caller gave up, when it sees the caller die, and when the
  # daemon dies. What comes later is dropped, by the owner (no such id) or by the alias.

  alias DSPyBridge.{Bridge, Call, Codec, Error, Link, Specs, Wire}

  @enforce_keys [:id, :ref, :link, :bridge]
  defstruct @enforce_keys

  @type t :: %__MODULE__{}

  @doc "Sends a request and waits for its reply."
  @spec run(Call.t(), Link.t(), integer() | :infinity) :: DSPyBridge.result()
  def run(%Call{on_event: nil} = call, link, deadline) do
    id = Bridge.next_id(call.bridge)

    with {:ok, frame} <- frame(call, link, id) do
      # The reference is made in the function that receives, so a full mailbox is not searched.
      ref = :erlang.monitor(:process, link.owner, alias: :reply_demonitor)
      submit(call, link, id, ref, frame, false, deadline)

      receive do
        {^ref, :reply, frame} -> answer(link, frame)
        {^ref, :failed, error} -> {:error, error}
        {:DOWN, ^ref, :process, _owner, _reason} -> {:error, owner_died(call.bridge, id)}
      after
        Call.left(deadline) ->
          close(%__MODULE__{id: id, ref: ref, link: link, bridge: call.bridge})
          {:error, timed_out(call)}
      end
    end
  end

  def run(%Call{on_event: on_event} = call, link, deadline) do
    with {:ok, exchange} <- open(call, link, deadline), do: follow(exchange, on_event, deadline)
  end

  defp follow(exchange, on_event, deadline) do
    case next(exchange, Call.left(deadline)) do
      {:event, name, data} ->
        on_event.(name, data)
        follow(exchange, on_event, deadline)

      {:answer, answer} ->
        answer
    end
  catch
    kind, reason ->
      close(exchange)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  @doc "Sends a request whose events are wanted; `next/2` gives them, `close/1` gives it up."
  @spec open(Call.t(), Link.t(), integer() | :infinity) :: {:ok, t()} | {:error, Error.t()}
  def open(%Call{} = call, link, deadline) do
    id = Bridge.next_id(call.bridge)

    with {:ok, frame} <- frame(call, link, id) do
      ref = :erlang.monitor(:process, link.owner, alias: :explicit_unalias)
      submit(call, link, id, ref, frame, true, deadline)
      {:ok, %__MODULE__{id: id, ref: ref, link: link, bridge: call.bridge}}
    end
  end

  @doc "The next event or, once and last, the answer. Past the timeout the request is cancelled."
  @spec next(t(), timeout()) ::
          {:event, String.t(), map()} | {:answer, DSPyBridge.result()}
  def next(%__MODULE__{ref: ref} = exchange, timeout) do
    receive do
      {^ref, kind, content} -> take(exchange, kind, content)
      {:DOWN, ^ref, :process, _owner, _reason} -> take(exchange, :down, nil)
    after
      timeout ->
        close(exchange)
        {:answer, {:error, Error.new(:timeout, "no answer within the timeout")}}
    end
  end

  @doc "What a message `{ref, kind, content}` of the owner means."
  @spec take(t(), atom(), term()) :: {:event, String.t(), map()} | {:answer, DSPyBridge.result()}
  def take(exchange, :event, frame) do
    case Wire.decode(exchange.link.codec, frame) do
      {:ok, {:event, name, _id, data}} -> {:event, name, data}
      {:error, error} -> finish(exchange, {:error, error})
    end
  end

  def take(exchange, :reply, frame), do: finish(exchange, answer(exchange.link, frame))
  def take(exchange, :failed, error), do: finish(exchange, {:error, error})

  def take(exchange, :down, nil),
    do: finish(exchange, {:error, owner_died(exchange.bridge, exchange.id)})

  defp finish(exchange, answer) do
    unhook(exchange)
    {:answer, answer}
  end

  @doc "Gives the request up: it is cancelled, and what still comes of it is dropped."
  @spec close(t()) :: :ok
  def close(%__MODULE__{} = exchange) do
    send(exchange.link.owner, {:abandon, exchange.link.epoch, exchange.id})
    unhook(exchange)
  end

  defp unhook(%__MODULE__{ref: ref}) do
    :erlang.unalias(ref)
    Process.demonitor(ref, [:flush])
    flush(ref)
  end

  defp flush(ref) do
    receive do
      {^ref, _kind, _content} -> flush(ref)
    after
      0 -> :ok
    end
  end

  defp frame(call, link, id) do
    request = Wire.request(id, call.command, call.args, call.envelope)

    with {:ok, frame} <- Codec.encode(link.codec, request) do
      case IO.iodata_length(frame) do
        size when size > link.max_frame ->
          text = "the request has #{size} bytes, and a frame at most #{link.max_frame}"
          {:error, Error.new(:frame_too_large, text)}

        _size ->
          {:ok, frame}
      end
    end
  end

  # What cannot be sent is told in the same way as what failed later: by a message.
  defp submit(call, link, id, ref, frame, events?, deadline) do
    change = if call.keep, do: Specs.change(call.command, call.args, call.envelope[:tenant])
    :ets.insert(call.bridge.calls, {id, self(), ref, events?, change})
    send(link.owner, {:watch, id, self()})

    case Link.write(link, frame, deadline) do
      :ok ->
        :ok

      :closed ->
        :ets.delete(call.bridge.calls, id)
        send(ref, {ref, :failed, Error.new(:worker_died, "the daemon ended", details: daemon())})

      :busy ->
        send(link.owner, {:abandon, link.epoch, id})

        send(
          ref,
          {ref, :failed, Error.new(:timeout, "the daemon did not read the request in time")}
        )
    end
  rescue
    # The bridge was stopped in the meantime, and its tables went with it.
    ArgumentError -> send(ref, {ref, :failed, Bridge.not_running(call.bridge.name)})
  end

  defp answer(link, frame) do
    case Wire.decode(link.codec, frame) do
      {:ok, {:result, _id, result}} -> {:ok, result}
      {:ok, {:error, _id, error}} -> {:error, error}
      {:ok, other} -> {:error, Error.new(:invalid_message, "no reply: #{inspect(other)}")}
      {:error, error} -> {:error, error}
    end
  end

  defp owner_died(bridge, id) do
    :ets.delete(bridge.calls, id)
    Bridge.not_running(bridge.name)
  rescue
    # The tables went with the bridge.
    ArgumentError -> Bridge.not_running(bridge.name)
  end

  defp timed_out(call),
    do: Error.new(:timeout, "no answer to #{call.command} within #{call.timeout} ms")

  @doc "The details of an error that the end of the daemon is the reason of."
  @spec daemon(map()) :: map()
  def daemon(more \\ %{}), do: Map.put(more, "daemon", true)
end
