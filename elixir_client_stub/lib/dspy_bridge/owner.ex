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

  alias DSPyBridge.{
    Bridge,
    Codec,
    Daemon,
    Error,
    Link,
    Restarts,
    Secret,
    Specs,
    Telemetry,
    Traffic,
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
    :restarts,
    :traffic,
    status: :down,
    ready?: false,
    epoch: 0,
    waiting: []
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

    state = %__MODULE__{
      bridge: bridge,
      codec: codec,
      options: options,
      traffic: %Traffic{bridge: bridge},
      restarts: Restarts.new(Secret.unwrap(options))
    }

    {:ok, state, {:continue, :open}}
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
            # Another owner of this bridge does not count from the beginning again.
            epoch: System.unique_integer([:monotonic, :positive]),
            status: :greeting,
            opened: System.monotonic_time()
        }

        Process.send_after(self(), {:late, state.epoch}, option(state, :start_timeout))
        say(state, Wire.hello(@own_id))

      {:error, text} ->
        ended(state, text)
    end
  end

  defp greeted(state, {:ok, {:result, _id, info}}) do
    link = %Link{
      port: state.port,
      owner: self(),
      codec: state.codec,
      max_frame: get_in(info, ["limits", "max_frame"]) || @first_max_frame,
      epoch: state.epoch
    }

    look_after(state)
    ready? = state.ready? or get_in(info, ["dspy", "ready"]) == true
    state = %{state | link: link, info: info, ready?: ready?}
    settle(%{state | status: :restoring, restoring: restore(state)})
  end

  defp greeted(state, refused) do
    error =
      with {:ok, {:error, _id, error}} <- refused, do: error, else: ({:error, error} -> error)

    log(state, "the daemon refused hello: #{Exception.message(error)}")
    Daemon.kill(state.os_pid)
    state
  end

  # In a task: the specs may be large, and what gives the configuration is the user's.
  defp restore(%{bridge: bridge, link: link, options: options}) do
    tasks = Bridge.part(bridge, :tasks)
    task = Task.Supervisor.async_nolink(tasks, fn -> Specs.restore(bridge, link, options) end)
    task.ref
  end

  defp up(state, refused) do
    for {key, error} <- refused do
      log(state, "the daemon refused #{inspect(key)}: #{Exception.message(error)}")
    end

    :ets.insert(state.bridge.link, {:link, state.link})

    taken = System.monotonic_time() - state.opened
    Telemetry.daemon_up(state.bridge, state.os_pid, state.info, taken, length(refused))
    settle(%{state | status: :up, restoring: nil, restarts: Restarts.up(state.restarts)})
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

  defp awaited({:link, last}, %{status: :up, epoch: epoch} = state) when epoch > last,
    do: {:ok, state.link}

  defp awaited(:info, %{status: :up} = state), do: {:ok, state.info}
  defp awaited(:ready, %{status: :up, ready?: true}), do: :ok

  defp awaited(_what, %{restarts: restarts} = state) do
    if state.status != :up and Restarts.failing?(restarts) do
      text = "the daemon cannot be kept up: #{Restarts.reason(restarts)}"
      {:error, Error.new(:worker_died, text)}
    end
  end

  # Answers those who waited for what is so now.
  defp settle(state) do
    waiting =
      Enum.reject(state.waiting, fn {what, from} ->
        if answer = awaited(what, state), do: GenServer.reply(from, answer)
      end)

    %{state | waiting: waiting}
  end

  ## What the daemon sends

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    case Wire.peek(frame) do
      :unknown -> {:noreply, decoded(state, frame)}
      head -> {:noreply, route(head, frame, state)}
    end
  end

  # It was asked to: a fresh one takes its place.
  def handle_info({port, {:exit_status, 0}}, %{port: port} = state) do
    state = state |> fail_calls("it was shut down") |> forget_daemon()
    {:noreply, open(%{state | status: :down})}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state),
    do: {:noreply, ended(state, "exit status #{status}")}

  # A port that could not be written to tells so before the exit status, or instead of it.
  def handle_info({:EXIT, port, reason}, %{port: port} = state) do
    Daemon.kill(state.os_pid)
    {:noreply, ended(state, "its port ended: #{inspect(reason)}")}
  end

  ## What callers tell

  def handle_info({:watch, id, caller}, state),
    do: {:noreply, %{state | traffic: Traffic.watch(state.traffic, id, caller)}}

  def handle_info({:abandon, epoch, id}, %{epoch: epoch} = state),
    do: {:noreply, moved(state, Traffic.abandon(state.traffic, id))}

  ## What ends

  def handle_info({ref, refused}, %{restoring: ref} = state) when is_list(refused) do
    Process.demonitor(ref, [:flush])
    {:noreply, up(state, refused)}
  end

  def handle_info({:DOWN, ref, :process, _task, reason}, %{restoring: ref} = state) do
    log(state, "the specs could not be sent: #{Exception.format_exit(reason)}")
    Daemon.kill(state.os_pid)
    {:noreply, %{state | restoring: nil}}
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, state),
    do: {:noreply, moved(state, Traffic.down(state.traffic, ref, reason))}

  ## Time

  def handle_info({:late, epoch}, %{epoch: epoch, status: :greeting} = state) do
    log(state, "the daemon did not say hello in time")
    Daemon.kill(state.os_pid)
    {:noreply, state}
  end

  def handle_info({:look, epoch}, %{epoch: epoch} = state) do
    asked = state.asked || now()
    silent = now() - asked

    if silent > option(state, :health_timeout) do
      log(state, "the daemon has not answered for #{silent} ms; it is killed")
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
        log(state, "an unreadable frame: #{Exception.message(error)}")
        state
    end
  end

  defp route({:reply, @own_id, _outcome}, frame, %{status: :greeting} = state),
    do: greeted(state, Wire.decode(state.codec, frame))

  defp route({:reply, @own_id, _outcome}, _frame, state), do: %{state | asked: nil}

  defp route({:reply, nil, _outcome}, frame, state) do
    with {:ok, {:error, nil, error}} <- Wire.decode(state.codec, frame),
         do: log(state, "the daemon could not read a frame: #{Exception.message(error)}")

    state
  end

  defp route({:event, "ready", nil}, _frame, state), do: settle(%{state | ready?: true})

  defp route({:event, name, id}, frame, state) when name == "log" or id == nil do
    with events when is_pid(events) <- GenServer.whereis(Bridge.part(state.bridge, :events)),
         do: send(events, {:event, frame})

    state
  end

  defp route(head, frame, state),
    do: %{state | traffic: Traffic.pass(state.traffic, head, frame, state.link)}

  # What happened in the traffic, and what is to be said for it.
  defp moved(state, {traffic, messages}),
    do: Enum.reduce(messages, %{state | traffic: traffic}, &say(&2, &1))

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
    os_pid = state.os_pid
    state = state |> fail_calls(reason) |> forget_daemon()
    {pause, restarts} = Restarts.ended(state.restarts, reason, now())
    Process.send_after(self(), :open, pause)
    log(state, "the daemon ended: #{reason}")
    Telemetry.daemon_down(state.bridge, os_pid, reason, Restarts.count(restarts))

    if Restarts.failing?(restarts),
      do: log(state, "it has ended #{Restarts.count(restarts)} times; calls fail until it is up")

    settle(%{state | status: :down, restarts: restarts})
  end

  defp fail_calls(state, reason) do
    :ets.delete(state.bridge.link, :link)
    %{state | traffic: Traffic.fail_callers(state.traffic, reason)}
  end

  defp forget_daemon(state) do
    if state.restoring, do: Process.demonitor(state.restoring, [:flush])
    if is_port(state.port) and Port.info(state.port), do: Port.close(state.port)

    %{
      state
      | port: nil,
        os_pid: nil,
        link: nil,
        asked: nil,
        restoring: nil,
        ready?: false,
        traffic: Traffic.cancel_calls(state.traffic)
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
    shown = Map.take(status.state, [:status, :os_pid, :epoch, :restarts, :ready?])
    status |> Map.put(:state, shown) |> Map.replace(:message, "not shown")
  end

  defp look_after(state),
    do: Process.send_after(self(), {:look, state.epoch}, option(state, :health_interval))

  defp log(state, text), do: Bridge.log(state.bridge, text)

  defp option(state, name), do: Secret.unwrap(state.options)[name]
  defp now, do: System.monotonic_time(:millisecond)
end
