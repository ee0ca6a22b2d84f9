defmodule DSPyBridge.Traffic do
  @moduledoc false
  # What goes through the connection: the requests of callers, and the daemon's calls to the host.
  #
  # It knows no port. What is to be said to the daemon for something that happened is given back.

  alias DSPyBridge.{Bridge, Callers, HostCalls, Link, Wire}

  @type t :: %__MODULE__{}
  @type messages :: [map()]

  @enforce_keys [:bridge]
  defstruct [:bridge, callers: %Callers{}, host_calls: %HostCalls{}]

  @doc "A caller has sent a request."
  @spec watch(t(), Wire.id(), pid()) :: t()
  def watch(traffic, id, caller),
    do: %{traffic | callers: Callers.watch(traffic.callers, traffic.bridge, id, caller)}

  @doc "A caller has given its request up."
  @spec abandon(t(), Wire.id()) :: {t(), messages()}
  def abandon(traffic, id) do
    {what, callers} = Callers.abandon(traffic.callers, traffic.bridge, id)
    {%{traffic | callers: callers}, if(what == :cancel, do: [cancel(traffic, id)], else: [])}
  end

  @doc "A process that was monitored has ended: a caller, or the task of a host call."
  @spec down(t(), reference(), term()) :: {t(), messages()}
  def down(traffic, monitor, reason) do
    case HostCalls.ended(traffic.host_calls, monitor, reason) do
      {:answered, open} ->
        {%{traffic | host_calls: open}, []}

      {:killed, call, open} ->
        if reason != :noproc,
          do:
            Bridge.log(traffic.bridge, "a callback was killed: #{Exception.format_exit(reason)}")

        answer = Wire.answer(call, {:error, "the callback was killed"})
        {%{traffic | host_calls: open}, [answer]}

      :none ->
        caller_died(traffic, monitor)
    end
  end

  defp caller_died(traffic, monitor) do
    case Callers.died(traffic.callers, traffic.bridge, monitor) do
      {:cancel, id, callers} -> {%{traffic | callers: callers}, [cancel(traffic, id)]}
      {:ok, callers} -> {%{traffic | callers: callers}, []}
    end
  end

  defp cancel(traffic, id),
    do: Wire.request(Bridge.next_id(traffic.bridge), "cancel", %{request: id})

  @doc "Passes a frame of the daemon on to the process that it concerns."
  @spec pass(t(), Wire.head(), binary(), Link.t() | nil) :: t()
  def pass(traffic, {:reply, id, outcome}, frame, _link) do
    case Callers.reply(traffic.callers, traffic.bridge, id, outcome, frame) do
      :none -> traffic
      callers -> %{traffic | callers: callers}
    end
  end

  def pass(traffic, {:event, _name, id}, frame, _link) do
    Callers.event(traffic.bridge, id, frame)
    traffic
  end

  def pass(traffic, {:call, call}, frame, link) do
    open = HostCalls.start(traffic.host_calls, call, traffic.bridge, link, frame)
    %{traffic | host_calls: open}
  end

  def pass(traffic, {:cancel_call, call}, _frame, _link),
    do: %{traffic | host_calls: HostCalls.cancel(traffic.host_calls, call)}

  @doc "The daemon is gone, or will be: everybody who waits for it is told."
  @spec fail_callers(t(), String.t()) :: t()
  def fail_callers(traffic, reason),
    do: %{traffic | callers: Callers.fail_all(traffic.callers, traffic.bridge, reason)}

  @doc "Nobody wants the answers to host calls any more."
  @spec cancel_calls(t()) :: t()
  def cancel_calls(traffic),
    do: %{traffic | host_calls: HostCalls.cancel_all(traffic.host_calls)}
end
