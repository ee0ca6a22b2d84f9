defmodule DSPyBridge.Owner do
  @moduledoc false
  # Owns the port: starts the daemon, passes frames on, sees it end, starts it again.
  #
  # The law of this file: nothing here waits, decodes a payload or runs a function of the user's.
  # A frame goes to the process it concerns as it came; `Wire.peek/1` tells which that is.
  #
  # The way of the daemon: `:down` -> open the port, say hello (`:greeting`) -> the task that sends
  # the specs (`:restoring`) -> `:up` -> its end -> `:down`, and after a pause from the beginning.

  use GenServer
  require Logger

  alias DSPyBridge.{
    Bridge,
    Callbacks,
    Codec,
    Daemon,
    Error,
    Exchange,
    Link,
    Secret,
    Specs,
    Telemetry,
    Wire
  }

  # The owner's own requests, hello and ping; a bridge's ids begin with 1.
  @own_id 0

  # After hello's answer the daemon says what its frames may have; before, this.
  @first_max_frame 64 * 1024 * 1024

  # Between two tries to write something small to a port that is busy.
  @write_again 5

  # Beyond the grace for requests: the daemon's flush, and its exit.
  @exit_slack 6_000

  defstruct [
    :bridge,
    :codec,
    :options,
    :port,
    :os_pid,
    :link,
    :info,
    :opened,
    :restoring,
    :asked,
    status: :down,
    ready?: false,
    epoch: 0,
    pause: 0,
    ends: [],
    waiting: [],
    watched: %{},
    callers: %{},
    hosted: %{},
    serving: %{}
  ]

  def start_link({bridge, codec, options}) do
    GenServer.start_link(__MODULE__, {bridge, codec, options}, name: Bridge.part(bridge, :owner))
  end

  @impl true
  def init({bridge, codec, options}) do
    Process.flag(:trap_exit, true)
    # What was in flight with the owner before us has had its answer.
    :ets.delete(bridge.link, :link)
    :ets.delete_all_objects(bridge.calls)
    {:ok, %__MODULE__{bridge: bridge, codec: codec, options: options}, {:continue, :open}}
  end

  ## Starting the daemon

  @impl true
  def handle_continue(:open, state), do: {:noreply, open(state)}

  defp open(state) do
    case Daemon.open(Secret.unwrap(state.options)) do
      {:ok, port} ->
        state = %{
          state
          | port: port,
            os_pid: Daemon.pid(port),
            epoch: state.epoch + 1,
            status: :greeting,
            opened: System.monotonic_time()
        }

        Process.send_after(self(), {:late, state.epoch}, option(state, :start_timeout))
        say(state, hello())

      {:error, text} ->
        ended(state, text)
    end
  end

  defp hello do
    client = %{name: "dspy_bridge (Elixir)", version: version()}
    args = %{protocol: [2], client: client, accepts: ["events", "calls"]}
    Wire.request(@own_id, "hello", args)
  end

  defp version, do: to_string(Application.spec(:dspy_bridge, :vsn) || "0")

  defp greeted(state, {:ok, {:result, _id, info}}) do
    link = %Link{
      port: state.port,
      owner: self(),
      codec: state.codec,
      max_frame: get_in(info, ["limits", "max_frame"]) || @first_max_frame,
      epoch: state.epoch
    }

    restoring = restore(state, link)
    look_after(state)
    ready? = get_in(info, ["dspy", "ready"]) == true or state.ready?

    settle(%{
      state
      | status: :restoring,
        link: link,
        info: info,
        restoring: restoring,
        ready?: ready?
    })
  end

  defp greeted(state, answer) do
    text =
      case answer do
        {:ok, {:error, _id, error}} -> Exception.message(error)
        {:error, error} -> Exception.message(error)
        _ -> "no answer to hello"
      end

    Logger.error("dspy-bridge: the daemon refused hello: #{text}", dspy_bridge: state.bridge.name)
    Daemon.kill(state.os_pid)
    state
  end

  # In a task: the specs may be large, and some are functions of the user's.
  defp restore(state, link) do
    {bridge, options} = {state.bridge, state.options}

    task =
      Task.Supervisor.async_nolink(Bridge.part(bridge, :tasks), fn ->
        Specs.send_all(bridge, link, configure(bridge, options))
      end)

    task.ref
  end

  defp configure(bridge, options) do
    args =
      case Secret.unwrap(options)[:configure] do
        nil -> %{}
        {module, function, args} -> apply(module, function, args)
        function when is_function(function) -> function.()
        args -> args
      end

    {args, []} = Callbacks.extract(bridge, "configure", Map.new(args))
    if args == %{}, do: [], else: [{:start, [{"configure", args, nil}]}]
  end

  defp up(state, refused) do
    for {key, error} <- refused do
      Logger.error("dspy-bridge: the daemon refused #{inspect(key)}: #{Exception.message(error)}",
        dspy_bridge: state.bridge.name
      )
    end

    :ets.insert(state.bridge.link, {:link, state.link})

    Telemetry.event(
      [:daemon, :up],
      %{duration: System.monotonic_time() - state.opened},
      %{
        bridge: state.bridge.name,
        os_pid: state.os_pid,
        versions: Map.take(state.info, ["server", "dspy"]),
        restored: :ets.info(state.bridge.specs, :size),
        refused: length(refused)
      }
    )

    settle(%{state | status: :up, restoring: nil, pause: 0})
  end

  ## Those who wait for it

  @impl true
  def handle_call({:await, what}, from, state) do
    case awaited(what, state) do
      nil -> {:noreply, %{state | waiting: [{what, from} | state.waiting]}}
      answer -> {:reply, answer, state}
    end
  end

  def handle_call({:learn, learned}, _from, state) do
    Specs.commit_learned(state.bridge, learned)
    {:reply, :ok, state}
  end

  defp awaited(:link, %{status: :up} = state), do: {:ok, state.link}
  defp awaited(:info, %{status: :up} = state), do: {:ok, state.info}
  defp awaited(:ready, %{status: :up, ready?: true}), do: :ok
  defp awaited(_what, %{status: :failing, ends: [reason | _]}), do: {:error, cannot_start(reason)}
  defp awaited(_what, _state), do: nil

  # Answers those who waited for what is so now.
  defp settle(state) do
    waiting =
      Enum.reject(state.waiting, fn {what, from} ->
        if answer = awaited(what, state), do: GenServer.reply(from, answer)
      end)

    %{state | waiting: waiting}
  end

  defp cannot_start({_time, reason}),
    do: Error.new(:worker_died, "the daemon cannot be kept up: #{reason}")

  ## What the daemon sends

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    case Wire.peek(frame) do
      :unknown -> {:noreply, decoded(state, frame)}
      head -> {:noreply, route(head, frame, state)}
    end
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state),
    do: {:noreply, ended(state, "exit status #{status}")}

  # A port that could not be written to tells so before the exit status, or instead of it.
  def handle_info({:EXIT, port, reason}, %{port: port} = state) do
    Daemon.kill(state.os_pid)
    {:noreply, ended(state, "its port ended: #{inspect(reason)}")}
  end

  ## What callers tell

  def handle_info({:watch, id, caller}, state) do
    # Most are answered by now.
    if :ets.member(state.bridge.calls, id) do
      monitor = Process.monitor(caller)
      callers = Map.put(state.callers, monitor, id)
      {:noreply, %{state | watched: Map.put(state.watched, id, monitor), callers: callers}}
    else
      {:noreply, state}
    end
  end

  def handle_info({:abandon, epoch, id}, state) do
    state = if epoch == state.epoch, do: abandon(state, id), else: state
    {:noreply, state}
  end

  ## What ends

  def handle_info({ref, refused}, %{restoring: ref} = state) when is_list(refused) do
    Process.demonitor(ref, [:flush])
    {:noreply, up(state, refused)}
  end

  def handle_info({:DOWN, ref, :process, _task, reason}, %{restoring: ref} = state) do
    text = "the specs could not be sent: #{Exception.format_exit(reason)}"
    Logger.error("dspy-bridge: #{text}", dspy_bridge: state.bridge.name)
    Daemon.kill(state.os_pid)
    {:noreply, %{state | restoring: nil}}
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, state) do
    case state do
      %{serving: %{^ref => call}} -> {:noreply, served(state, ref, call, reason)}
      %{callers: %{^ref => id}} -> {:noreply, caller_died(state, id)}
      _ -> {:noreply, state}
    end
  end

  ## Time

  def handle_info({:late, epoch}, %{epoch: epoch, status: :greeting} = state) do
    Logger.error("dspy-bridge: the daemon did not say hello in time",
      dspy_bridge: state.bridge.name
    )

    Daemon.kill(state.os_pid)
    {:noreply, state}
  end

  def handle_info({:look, epoch}, %{epoch: epoch} = state) do
    asked = state.asked || now()
    silent = now() - asked

    if silent > option(state, :health_timeout) do
      Logger.error("dspy-bridge: the daemon has not answered for #{silent} ms; it is killed",
        dspy_bridge: state.bridge.name
      )

      Daemon.kill(state.os_pid)
      {:noreply, state}
    else
      state = if state.asked, do: state, else: say(state, Wire.request(@own_id, "ping", %{}))
      look_after(state)
      {:noreply, %{state | asked: asked}}
    end
  end

  def handle_info({:write, epoch, frame}, %{epoch: epoch} = state),
    do: {:noreply, write(state, frame)}

  def handle_info(:open, %{port: nil} = state), do: {:noreply, open(state)}
  def handle_info({:EXIT, _pid, :normal}, state), do: {:noreply, state}
  def handle_info({:EXIT, pid, reason}, state) when is_pid(pid), do: {:stop, reason, state}
  # What concerns a daemon that is gone.
  def handle_info(_late, state), do: {:noreply, state}

  ## Passing on

  # The keys came in another order than the daemon's: it is read in full, then passed on as it is.
  defp decoded(state, frame) do
    case Wire.decode(state.codec, frame) do
      {:ok, message} ->
        route(Wire.head(message), frame, state)

      {:error, error} ->
        Logger.error("dspy-bridge: an unreadable frame: #{Exception.message(error)}",
          dspy_bridge: state.bridge.name
        )

        state
    end
  end

  defp route({:reply, @own_id, _outcome}, frame, %{status: :greeting} = state),
    do: greeted(state, Wire.decode(state.codec, frame))

  defp route({:reply, @own_id, _outcome}, _frame, state), do: %{state | asked: nil}

  defp route({:reply, id, outcome}, frame, state) do
    case :ets.take(state.bridge.calls, id) do
      [{_id, _caller, alias, _events?, change}] ->
        if outcome == :result, do: Specs.commit(state.bridge, change)
        send(alias, {alias, :reply, frame})
        unwatch(state, id)

      # Late, or an answer to a frame that the daemon could not read.
      [] ->
        if id == nil, do: unreadable(state, frame)
        state
    end
  end

  defp route({:event, "log", _id}, frame, state) do
    with logs when is_pid(logs) <- GenServer.whereis(Bridge.part(state.bridge, :logs)),
         do: send(logs, {:log, frame})

    state
  end

  defp route({:event, "ready", nil}, _frame, state), do: settle(%{state | ready?: true})

  defp route({:event, _name, id}, frame, state) do
    case :ets.lookup(state.bridge.calls, id) do
      [{_id, _caller, alias, true, _change}] -> send(alias, {alias, :event, frame})
      _ -> :ok
    end

    state
  end

  defp route({:call, call}, frame, state) do
    {:ok, task} =
      Task.Supervisor.start_child(
        Bridge.part(state.bridge, :tasks),
        Callbacks,
        :serve,
        [state.bridge, state.link, frame]
      )

    monitor = Process.monitor(task)

    %{
      state
      | hosted: Map.put(state.hosted, call, {task, monitor}),
        serving: Map.put(state.serving, monitor, call)
    }
  end

  defp route({:cancel_call, call}, _frame, state) do
    case state.hosted do
      %{^call => {task, monitor}} ->
        Process.demonitor(monitor, [:flush])
        Process.exit(task, :kill)
        forget(state, monitor, call)

      _ ->
        state
    end
  end

  defp unreadable(state, frame) do
    with {:ok, {:error, nil, error}} <- Wire.decode(state.codec, frame) do
      Logger.error("dspy-bridge: the daemon could not read a frame: #{Exception.message(error)}",
        dspy_bridge: state.bridge.name
      )
    end
  end

  # A task answers for itself, whatever its callback does; only one that was killed cannot.
  defp served(state, monitor, call, reason) do
    state = forget(state, monitor, call)

    if reason in [:normal, :noproc] do
      state
    else
      Logger.error("dspy-bridge: a callback was killed: #{Exception.format_exit(reason)}",
        dspy_bridge: state.bridge.name
      )

      say(state, Wire.answer(call, {:error, "the callback was killed"}))
    end
  end

  defp forget(state, monitor, call) do
    %{state | hosted: Map.delete(state.hosted, call), serving: Map.delete(state.serving, monitor)}
  end

  ## Callers who are gone

  defp unwatch(state, id) do
    case Map.pop(state.watched, id) do
      {nil, _watched} ->
        state

      {monitor, watched} ->
        Process.demonitor(monitor, [:flush])
        %{state | watched: watched, callers: Map.delete(state.callers, monitor)}
    end
  end

  # A change of the registry is not taken back: it is done soon, and the specs here have to agree.
  defp caller_died(state, id) do
    case :ets.lookup(state.bridge.calls, id) do
      [{_id, _caller, _alias, _events?, nil}] -> abandon(state, id)
      _ -> unwatch(state, id)
    end
  end

  defp abandon(state, id) do
    case :ets.take(state.bridge.calls, id) do
      [_row] ->
        cancel = Wire.request(Bridge.next_id(state.bridge), "cancel", %{request: id})
        state |> unwatch(id) |> say(cancel)

      [] ->
        unwatch(state, id)
    end
  end

  ## Writing what is the owner's own

  defp say(state, message) do
    {:ok, frame} = Codec.encode(state.codec, message)
    write(state, frame)
  end

  # Never suspended: if the daemon does not read now, it is tried again.
  defp write(%{port: nil} = state, _frame), do: state

  defp write(state, frame) do
    unless Daemon.write(state.port, frame),
      do: Process.send_after(self(), {:write, state.epoch, frame}, @write_again)

    state
  rescue
    ArgumentError -> state
  end

  ## The end of the daemon

  defp ended(state, reason) do
    state = state |> fail_calls(reason) |> forget_daemon()
    window = now() - option(state, :failure_window)
    ends = [{now(), reason} | Enum.filter(state.ends, fn {time, _} -> time > window end)]

    Logger.error("dspy-bridge: the daemon ended: #{reason}", dspy_bridge: state.bridge.name)
    metadata = %{bridge: state.bridge.name, os_pid: state.os_pid, reason: reason}
    Telemetry.event([:daemon, :down], %{count: length(ends)}, metadata)

    {first, longest} = option(state, :backoff)
    pause = if state.pause == 0, do: first, else: min(2 * state.pause, longest)
    Process.send_after(self(), :open, pause)
    status = if length(ends) >= option(state, :max_failures), do: :failing, else: :down

    if status == :failing and state.status != :failing do
      Logger.error(
        "dspy-bridge: the daemon ended #{length(ends)} times; calls fail until it is up",
        dspy_bridge: state.bridge.name
      )
    end

    settle(%{state | status: status, pause: pause, ends: ends, os_pid: nil})
  end

  defp fail_calls(state, reason) do
    :ets.delete(state.bridge.link, :link)
    details = Exchange.daemon(%{"reason" => reason})
    error = Error.new(:worker_died, "the daemon ended: #{reason}", details: details)

    for {id, _caller, alias, _events?, _change} <- :ets.tab2list(state.bridge.calls) do
      :ets.delete(state.bridge.calls, id)
      send(alias, {alias, :failed, error})
    end

    state
  end

  defp forget_daemon(state) do
    for {_call, {task, monitor}} <- state.hosted do
      Process.demonitor(monitor, [:flush])
      Process.exit(task, :kill)
    end

    for {monitor, _id} <- state.callers, do: Process.demonitor(monitor, [:flush])
    if state.restoring, do: Process.demonitor(state.restoring, [:flush])
    if is_port(state.port) and Port.info(state.port), do: Port.close(state.port)

    %{
      state
      | port: nil,
        link: nil,
        asked: nil,
        restoring: nil,
        ready?: false,
        watched: %{},
        callers: %{},
        hosted: %{},
        serving: %{}
    }
  end

  ## Our own end

  @impl true
  def terminate(_reason, %{port: nil} = state), do: fail_calls(state, "the bridge is stopping")

  def terminate(_reason, state) do
    :ets.delete(state.bridge.link, :link)
    grace = option(state, :grace)
    say(state, Wire.request(Bridge.next_id(state.bridge), "shutdown", %{grace_ms: grace}))

    state
    |> Map.put(:restoring, nil)
    |> drain(now() + grace + @exit_slack)
    |> fail_calls("the bridge is stopping")
  end

  # What is in flight is still passed on, callbacks included, until the daemon has ended.
  defp drain(%{port: port} = state, deadline) do
    receive do
      {^port, {:exit_status, _status}} -> state
      {:EXIT, ^port, _reason} -> state
      {:EXIT, _pid, _reason} -> drain(state, deadline)
      message -> message |> handle_info(state) |> elem(1) |> drain(deadline)
    after
      max(deadline - now(), 0) ->
        Daemon.kill(state.os_pid)
        state
    end
  end

  ## What a crash report may show

  # Messages hold frames, and frames what users said. The options are wrapped anyway.
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    shown = Map.take(status.state, [:status, :os_pid, :epoch, :ends, :ready?])
    status |> Map.put(:state, shown) |> Map.replace(:message, "not shown")
  end

  defp look_after(state),
    do: Process.send_after(self(), {:look, state.epoch}, option(state, :health_interval))

  defp option(state, name), do: Secret.unwrap(state.options)[name]
  defp now, do: System.monotonic_time(:millisecond)
end
