defmodule DSPyBridge.Stream do
  @moduledoc false
  # A request whose events are wanted, as a lazy stream or as messages to a process.

  alias DSPyBridge.{Bridge, Call, Chunk, Error, Exchange}

  @doc "A stream; each run of it is a request, which is cancelled when the run is halted early."
  @spec lazy(Call.t()) :: Enumerable.t()
  def lazy(%Call{} = call) do
    Stream.resource(fn -> start(call) end, &items/1, &stop/1)
  end

  defp start(call) do
    deadline = Call.deadline(call.timeout)

    with {:ok, call} <- Call.bind(call),
         {:ok, link} <- Bridge.link(call.bridge, Call.left(deadline)),
         {:ok, exchange} <- Exchange.open(call, link, deadline) do
      {exchange, deadline}
    end
  end

  defp items(:done), do: {:halt, :done}
  defp items({:error, error}), do: {[{:error, error}], :done}

  defp items({exchange, deadline} = running) do
    case item(Exchange.next(exchange, Call.left(deadline))) do
      {:last, item} -> {[item], :done}
      {:more, items} -> {items, running}
    end
  end

  defp stop({%Exchange{} = exchange, _deadline}), do: Exchange.close(exchange)
  defp stop(_ended), do: :ok

  defp item({:event, "chunk", data}), do: {:more, [{:chunk, Chunk.from_wire(data)}]}
  defp item({:event, "status", data}), do: {:more, [{:status, data}]}
  defp item({:event, _other, _data}), do: {:more, []}
  defp item({:answer, {:ok, result}}), do: {:last, {:done, result}}
  defp item({:answer, {:error, error}}), do: {:last, {:error, error}}

  @doc "Sends `{DSPyBridge, ref, item}` to a process; gives `ref`, which `cancel/1` takes."
  @spec into(Call.t(), pid()) :: {:ok, reference()} | {:error, Error.t()}
  def into(%Call{} = call, pid) when is_pid(pid) do
    with {:ok, call} <- Call.bind(call) do
      asker = self()
      tag = make_ref()
      run = fn -> forward(call, pid, asker, tag) end
      {:ok, task} = Task.Supervisor.start_child(Bridge.part(call.bridge, :tasks), run)
      monitor = Process.monitor(task)

      receive do
        {^tag, ref} ->
          Process.demonitor(monitor, [:flush])
          {:ok, ref}

        {:DOWN, ^monitor, :process, _task, _reason} ->
          {:error, Bridge.not_running(call.bridge.name)}
      end
    end
  end

  @doc "Ends what `into/2` began. The reference is the task's alias, so no table is needed."
  @spec cancel(reference()) :: :ok
  def cancel(ref) do
    send(ref, {DSPyBridge, :cancel})
    :ok
  end

  defp forward(call, pid, asker, tag) do
    ref = :erlang.alias()
    reader = Process.monitor(pid)
    send(asker, {tag, ref})

    case start(call) do
      {:error, error} -> send(pid, {DSPyBridge, ref, {:error, error}})
      {exchange, deadline} -> forward(exchange, deadline, pid, ref, reader)
    end
  end

  defp forward(%Exchange{ref: alias} = exchange, deadline, pid, ref, reader) do
    receive do
      {^alias, kind, content} ->
        case item(Exchange.take(exchange, kind, content)) do
          {:last, item} ->
            send(pid, {DSPyBridge, ref, item})

          {:more, items} ->
            Enum.each(items, &send(pid, {DSPyBridge, ref, &1}))
            forward(exchange, deadline, pid, ref, reader)
        end

      {:DOWN, ^reader, :process, _pid, _reason} ->
        Exchange.close(exchange)

      {:DOWN, ^alias, :process, _owner, _reason} ->
        {:last, item} = item(Exchange.take(exchange, :down, nil))
        send(pid, {DSPyBridge, ref, item})

      {DSPyBridge, :cancel} ->
        Exchange.close(exchange)
        give_up(pid, ref, Error.new(:cancelled, "the stream was cancelled"))
    after
      Call.left(deadline) ->
        Exchange.close(exchange)
        give_up(pid, ref, Error.new(:timeout, "the stream did not end within its timeout"))
    end
  end

  defp give_up(pid, ref, error), do: send(pid, {DSPyBridge, ref, {:error, error}})
end
