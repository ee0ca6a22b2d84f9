defmodule DSPyBridge.Callers do
  @moduledoc false
  # Who waits for which request: the owner's monitors of them, both ways.

  @type t :: %__MODULE__{}

  defstruct by_id: %{}, by_monitor: %{}

  @spec watch(t(), pos_integer(), pid()) :: t()
  def watch(%__MODULE__{} = callers, id, caller) do
    monitor = Process.monitor(caller)

    %__MODULE__{
      by_id: Map.put(callers.by_id, id, monitor),
      by_monitor: Map.put(callers.by_monitor, monitor, id)
    }
  end

  @spec unwatch(t(), pos_integer()) :: t()
  def unwatch(%__MODULE__{} = callers, id) do
    case Map.pop(callers.by_id, id) do
      {nil, _by_id} ->
        callers

      {monitor, by_id} ->
        Process.demonitor(monitor, [:flush])
        %__MODULE__{by_id: by_id, by_monitor: Map.delete(callers.by_monitor, monitor)}
    end
  end

  @doc "Which request the process waited for that this monitor tells of."
  @spec id_of(t(), reference()) :: pos_integer() | nil
  def id_of(%__MODULE__{by_monitor: by_monitor}, monitor), do: by_monitor[monitor]

  @spec unwatch_all(t()) :: t()
  def unwatch_all(%__MODULE__{by_monitor: by_monitor}) do
    for {monitor, _id} <- by_monitor, do: Process.demonitor(monitor, [:flush])
    %__MODULE__{}
  end
end
