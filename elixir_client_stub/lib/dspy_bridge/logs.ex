defmodule DSPyBridge.Logs do
  @moduledoc false
  # The daemon's log lines, into Logger. A process of its own: Logger may make its caller wait.

  use GenServer
  require Logger

  alias DSPyBridge.{Bridge, Wire}

  @levels %{"debug" => :debug, "info" => :info, "warning" => :warning, "error" => :error}

  def start_link({bridge, codec}),
    do: GenServer.start_link(__MODULE__, {bridge, codec}, name: Bridge.part(bridge, :logs))

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_info({:log, frame}, {bridge, codec} = state) do
    with {:ok, {:event, "log", request, line}} <- Wire.decode(codec, frame),
         do: log(bridge, request, line)

    {:noreply, state}
  end

  defp log(bridge, request, line) do
    level = Map.get(@levels, line["level"], :warning)
    fields = Map.drop(line, ["level", "event", "timestamp"])
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
