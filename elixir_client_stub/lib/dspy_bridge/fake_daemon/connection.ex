defmodule DSPyBridge.FakeDaemon.Connection do
  @moduledoc false
  # One life of a fake daemon. It stands where the port does: it is sent `{pid, {:command, frame}}`,
  # and sends `{self(), {:data, frame}}` and `{self(), {:exit_status, status}}` to its owner.

  use GenServer
  require Logger

  alias DSPyBridge.Codec
  alias DSPyBridge.FakeDaemon.{Request, Script}

  # The codec of what no request caused; JSON is written only to those who write it.
  @codec Codec.MessagePack

  defstruct [:fake, :owner, :json, next_call: 1, tasks: %{}, ids: %{}, calls: %{}]

  @spec start_link(pid(), pid()) :: {:ok, pid()} | {:error, term()}
  def start_link(fake, owner), do: GenServer.start_link(__MODULE__, {fake, owner})

  @doc "Ends it with an exit status, whatever it does."
  def crash(connection, status), do: send(connection, {:crash, status})

  @impl true
  def init({fake, owner}) do
    Process.flag(:trap_exit, true)
    Process.monitor(fake)
    {:ok, %__MODULE__{fake: fake, owner: owner}, {:continue, :opened}}
  end

  @impl true
  def handle_continue(:opened, state) do
    :ok = GenServer.call(state.fake, :opened)
    {:noreply, state}
  end

  ## What comes

  @impl true
  def handle_info({_owner, {:command, frame}}, state) do
    frame = IO.iodata_to_binary(frame)
    codec = codec_of(frame)
    {:ok, message} = Codec.decode(codec, frame)
    {:noreply, received(message, codec, state)}
  end

  def handle_info({:say, message}, state), do: {:noreply, say(state, message, @codec)}
  def handle_info({:crash, status}, state), do: ended(state, status)

  def handle_info({:done, id, codec, outcome}, state) do
    state = %{state | tasks: Map.delete(state.tasks, id)}
    {:noreply, answered(state, id, codec, outcome)}
  end

  def handle_info({:EXIT, owner, _reason}, %{owner: owner} = state), do: {:stop, :normal, state}
  def handle_info({:EXIT, _task, _reason}, state), do: {:noreply, state}
  def handle_info({:DOWN, _, :process, fake, _}, %{fake: fake} = state), do: ended(state, 0)

  defp received(%{"call" => call} = answer, _codec, state) do
    case Map.pop(state.calls, call) do
      {nil, _calls} ->
        state

      {{from, _request}, calls} ->
        GenServer.reply(from, host_answer(answer))
        %{state | calls: calls}
    end
  end

  defp received(%{"command" => "hello", "id" => id}, codec, state) do
    state = say(state, %{id: id, result: hello()}, codec)
    say(state, %{event: "ready", id: nil, data: %{seconds: 0.0}}, codec)
  end

  defp received(%{"command" => "cancel", "id" => id, "args" => args}, codec, state) do
    request = args["request"]
    cancelled? = is_map_key(state.tasks, request)
    state |> cancel(request, codec) |> say(%{id: id, result: %{cancelled: cancelled?}}, codec)
  end

  defp received(%{"command" => "shutdown", "id" => id}, codec, state) do
    send(self(), {:crash, 0})
    say(state, %{id: id, result: %{}}, codec)
  end

  defp received(%{"id" => id, "command" => command} = message, codec, state) do
    args = message["args"] || %{}
    envelope = Map.drop(message, ["id", "command", "args"])
    call = %{command: command, args: args, envelope: envelope}
    {answer, callers} = GenServer.call(state.fake, {:take, call})

    request = %Request{
      id: id,
      command: command,
      args: args,
      envelope: envelope,
      connection: self()
    }

    if is_function(answer),
      do: start(state, request, answer, callers, codec),
      else: answered(state, id, codec, Script.outcome!(answer))
  end

  ## Functions of the test, each in a process of its own

  defp start(state, request, answer, callers, codec) do
    connection = self()

    {:ok, task} =
      Task.start_link(fn ->
        Process.put(:"$callers", callers)
        send(connection, {:done, request.id, codec, outcome(answer, request)})
      end)

    %{state | tasks: Map.put(state.tasks, request.id, task)}
  end

  defp outcome(answer, request) do
    Script.outcome!(Script.run(answer, request.args, request))
  rescue
    error ->
      text = Exception.message(error)

      Logger.error(
        "a stub of the fake daemon: " <> Exception.format(:error, error, __STACKTRACE__)
      )

      {:error, %{code: "internal", message: text, retriable: false, details: %{}}}
  end

  defp cancel(state, request, codec) do
    case Map.pop(state.tasks, request) do
      {nil, _tasks} ->
        state

      {task, tasks} ->
        if is_pid(task), do: Process.exit(task, :kill)
        {theirs, others} = Enum.split_with(state.calls, fn {_, {_, id}} -> id == request end)
        state = %{state | tasks: tasks, calls: Map.new(others)}

        state =
          Enum.reduce(theirs, state, fn {call, _}, state ->
            say(state, %{cancel_call: call}, codec)
          end)

        error = %{
          code: "cancelled",
          message: "the host cancelled it",
          retriable: false,
          details: %{}
        }

        say(state, %{id: request, error: error}, codec)
    end
  end

  # It stays in flight, and can be cancelled.
  defp answered(state, id, _codec, :never),
    do: %{state | tasks: Map.put(state.tasks, id, :never)}

  defp answered(state, id, codec, {:ok, result}), do: say(state, %{id: id, result: result}, codec)
  defp answered(state, id, codec, {:error, error}), do: say(state, %{id: id, error: error}, codec)

  ## Host calls

  @impl true
  def handle_call({:host, id, target, name, args}, from, state) do
    call = state.next_call
    message = %{call: call, target: target, name: name, args: args, id: id}
    calls = Map.put(state.calls, call, {from, id})
    {:noreply, say(%{state | next_call: call + 1, calls: calls}, message, @codec)}
  end

  defp host_answer(%{"error" => %{"message" => message}}), do: {:error, message}
  defp host_answer(%{"error" => message}) when message != nil, do: {:error, message}
  defp host_answer(answer), do: {:ok, answer["result"]}

  ## What goes

  defp say(state, message, codec) do
    send(state.owner, {self(), {:data, encoded(message, codec)}})
    state
  end

  defp encoded(message, codec) do
    case Codec.encode(codec, message) do
      {:ok, frame} ->
        IO.iodata_to_binary(frame)

      {:error, error} ->
        refused = %{code: "internal", message: "the fake's answer: #{error.message}"}
        {:ok, frame} = Codec.encode(codec, %{id: message[:id], error: refused})
        IO.iodata_to_binary(frame)
    end
  end

  defp codec_of(<<?{, _::bits>>) do
    [Codec.Jiffy, Codec.JSON, Codec.OTPJSON, Codec.Jason] |> Enum.find(& &1.available?())
  end

  defp codec_of(_frame), do: Codec.MessagePack

  defp ended(state, status) do
    for {_id, task} <- state.tasks, is_pid(task), do: Process.exit(task, :kill)
    send(state.owner, {self(), {:exit_status, status}})
    {:stop, :normal, state}
  end

  defp hello do
    %{
      protocol: 2,
      server: %{name: "fake", version: "0", pid: 0, python: nil},
      dspy: %{version: nil, ready: true},
      commands: [],
      modules: [],
      optimizers: [],
      metrics: [],
      lm_providers: [],
      limits: %{max_frame: 64 * 1024 * 1024},
      codecs: ["json", "msgpack"]
    }
  end
end
