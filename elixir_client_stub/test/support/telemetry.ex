unless Code.ensure_loaded?(:telemetry) do
  defmodule :telemetry do
    @moduledoc false
    # What the client needs of the library, which cannot be a dependency of its tests: `attach/1`
    # sends events to the attached processes.

    def attach(pid) do
      :persistent_term.put(__MODULE__, [pid | :persistent_term.get(__MODULE__, [])])
    end

    def execute(event, measurements, metadata) do
      for pid <- :persistent_term.get(__MODULE__, []),
          do: send(pid, {:telemetry, event, measurements, metadata})

      :ok
    end
  end
end
