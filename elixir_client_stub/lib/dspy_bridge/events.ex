defmodule DSPyBridge.Events do
  @moduledoc false
  # Events that are nobody's answer: the daemon's log lines go into Logger, the progress of detached
  # runs to whoever subscribed. A process of its own, because Logger may make its caller wait.

  use GenServer
  require Logger

  alias DSPyBridge.{Bridge, Wire}

  @levels %{"debug" => :debug, "info" => :info, "warning" => :warning, "error" => :error}
  @subscribers DSPyBridge.Subscribers

  def start_link({bridge, codec}),
    do: GenServer.start_link(__MODULE__, {bridge, codec}, name: Bridge.part(bridge, :events))

  @doc "Lets the calling process have what `DSPyBridge.subscribe/1` promises."
  @spec subscribe(Bridge.t()) :: :ok
  def subscribe(bridge) do
    if bridge.supervisor not in Registry.keys(@subscribers, self()),
      do: {:ok, _} = Registry.register(@subscribers, bridge.supervisor, nil)

    :ok
  end

  @spec unsubscribe(Bridge.t()) :: :ok
  def unsubscribe(bridge), do: Registry.unregister(@subscribers, bridge.supervisor)

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_info({:event, frame}, {bridge, codec} = state) do
    case Wire.decode(codec, frame) do
      {:ok, {:event, "log", request, line}} -> log(bridge, request, line)
      {:ok, {:event, name, nil, data}} -> tell(bridge, name, data)
      _ -> :ok
    end

    {:noreply, state}
  end

  defp tell(bridge, name, data) do
    Registry.dispatch(@subscribers, bridge.supervisor, fn subscribers ->
      for {pid, nil} <- subscribers,
          do: send(pid, {DSPyBridge, bridge.name, {:event, name, data}})
    end)
  end

  defp log(bridge, request, line) do
    level = Map.get(@levels, line["level"], :warning)
    fields = Map.drop(line, ["level", "event"])
    told = Enum.map_join(fields, fn {name, value} -> " #{name}=#{shown(value)}" end)

    Logger.log(level, "dspy-bridge: #{line["event"]}#{told}",
      dspy_bridge: bridge.name,
      dspy_event: line["event"],
      dspy_request: request,
      dspy_fields: fields
    )
  end

  defp shown(text) when is_binary(text), do: text
  defp shown(value), do: inspect(value)
end
