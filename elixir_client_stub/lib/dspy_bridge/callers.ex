defmodule DSPyBridge.Callers do
  @moduledoc false
  # Who waits for which request: the rows of the table of calls, and the owner's monitors.
  #
  # A caller puts its row in, `{id, pid, alias, wants events?, change of the specs}`. It goes out on
  # every path: answered, given up, its caller dead, or the daemon's end. Only the owner of the port
  # uses this, but for the caller's own putting in.

  alias DSPyBridge.{Bridge, Error, Exchange, Specs}

  @type t :: %__MODULE__{}

  defstruct by_id: %{}, by_monitor: %{}

  @doc "Watches the caller of a request, unless it has been answered by now, as most are."
  @spec watch(t(), Bridge.t(), pos_integer(), pid()) :: t()
  def watch(%__MODULE__{} = callers, bridge, id, caller) do
    if :ets.member(bridge.calls, id) do
      monitor = Process.monitor(caller)

      %__MODULE__{
        by_id: Map.put(callers.by_id, id, monitor),
        by_monitor: Map.put(callers.by_monitor, monitor, id)
      }
    else
      callers
    end
  end

  @doc "Passes a reply on; `:none` when nobody waits for it any more."
  @spec reply(t(), Bridge.t(), pos_integer(), :result | :error, binary()) :: t() | :none
  def reply(%__MODULE__{} = callers, bridge, id, outcome, frame) do
    case :ets.take(bridge.calls, id) do
      [{_id, _caller, alias, _events?, change}] ->
        if outcome == :result, do: Specs.commit(bridge, change)
        send(alias, {alias, :reply, frame})
        unwatch(callers, id)

      [] ->
        :none
    end
  end

  @doc "Passes an event on to a caller who wants events."
  @spec event(Bridge.t(), pos_integer() | nil, binary()) :: :ok
  def event(bridge, id, frame) do
    with [{_id, _caller, alias, true, _change}] <- :ets.lookup(bridge.calls, id),
         do: send(alias, {alias, :event, frame})

    :ok
  end

  @doc "A caller gives up: `{:cancel, callers}`, or `{:ok, callers}` when it has been answered."
  @spec abandon(t(), Bridge.t(), pos_integer()) :: {:cancel | :ok, t()}
  def abandon(%__MODULE__{} = callers, bridge, id) do
    rows = :ets.take(bridge.calls, id)
    {if(rows == [], do: :ok, else: :cancel), unwatch(callers, id)}
  end

  @doc """
  A monitored process died: which request is to be cancelled.

  A change of the registry is not taken back: it is done soon, and the specs here have to agree.
  """
  @spec died(t(), Bridge.t(), reference()) :: {:cancel, pos_integer(), t()} | {:ok, t()}
  def died(%__MODULE__{} = callers, bridge, monitor) do
    id = callers.by_monitor[monitor]

    case id && :ets.lookup(bridge.calls, id) do
      [{_id, _caller, _alias, _events?, nil}] ->
        {:cancel, callers} = abandon(callers, bridge, id)
        {:cancel, id, callers}

      _ ->
        {:ok, unwatch(callers, id)}
    end
  end

  @doc "The daemon is gone: everybody who waits gets `worker_died`."
  @spec fail_all(t(), Bridge.t(), String.t()) :: t()
  def fail_all(%__MODULE__{} = callers, bridge, reason) do
    details = Exchange.daemon(%{"reason" => reason})
    error = Error.new(:worker_died, "the daemon ended: #{reason}", details: details)

    for {id, _caller, alias, _events?, _change} <- :ets.tab2list(bridge.calls) do
      :ets.delete(bridge.calls, id)
      send(alias, {alias, :failed, error})
    end

    for {monitor, _id} <- callers.by_monitor, do: Process.demonitor(monitor, [:flush])
    %__MODULE__{}
  end

  defp unwatch(callers, id) do
    case Map.pop(callers.by_id, id) do
      {nil, _by_id} ->
        callers

      {monitor, by_id} ->
        Process.demonitor(monitor, [:flush])
        %__MODULE__{by_id: by_id, by_monitor: Map.delete(callers.by_monitor, monitor)}
    end
  end
end
