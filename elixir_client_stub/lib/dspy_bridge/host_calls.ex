defmodule DSPyBridge.HostCalls do
  @moduledoc false
  # The host calls that are open, and the tasks that serve them.
  #
  # A task answers for itself, whatever its callback does; only one that was killed cannot. After
  # the first call one task always stands by for the next: to be started while a call waits would
  # be a tenth of it.

  alias DSPyBridge.{Bridge, Callbacks, Link, Wire}

  @type t :: %__MODULE__{}

  defstruct by_call: %{}, by_monitor: %{}, spare: nil

  @doc "Serves a call in a task of its own."
  @spec start(t(), Wire.id(), Bridge.t(), Link.t(), binary()) :: t()
  def start(%__MODULE__{} = open, call, bridge, link, frame) do
    {task, monitor} = open.spare || stand_by(bridge)
    send(task, {:serve, link, frame})

    %__MODULE__{
      by_call: Map.put(open.by_call, call, {task, monitor}),
      by_monitor: Map.put(open.by_monitor, monitor, call),
      spare: stand_by(bridge)
    }
  end

  defp stand_by(bridge) do
    tasks = Bridge.part(bridge, :tasks)
    {:ok, task} = Task.Supervisor.start_child(tasks, Callbacks, :serve_next, [bridge])
    {task, Process.monitor(task)}
  end

  @doc "The daemon no longer wants the answer: the task is killed."
  @spec cancel(t(), Wire.id()) :: t()
  def cancel(%__MODULE__{} = open, call) do
    case open.by_call do
      %{^call => {task, monitor}} ->
        kill(task, monitor)
        forget(open, call, monitor)

      _ ->
        open
    end
  end

  @doc """
  A monitored process ended: `:none` if it was no task of these, else whether an answer is owed.

  Of a task that was gone before it was monitored nobody knows. To answer its call is right in
  either case: the daemon drops an answer that is not the first.
  """
  @spec ended(t(), reference(), term()) ::
          {:answered, t()} | {:killed, Wire.id(), t()} | :none
  def ended(%__MODULE__{spare: {_task, monitor}} = open, monitor, _reason),
    do: {:answered, %{open | spare: nil}}

  def ended(%__MODULE__{} = open, monitor, reason) do
    case open.by_monitor do
      %{^monitor => call} ->
        open = forget(open, call, monitor)
        if reason == :normal, do: {:answered, open}, else: {:killed, call, open}

      _ ->
        :none
    end
  end

  @doc "The daemon is gone: nobody wants any answer."
  @spec cancel_all(t()) :: t()
  def cancel_all(%__MODULE__{by_call: by_call, spare: spare}) do
    for {_call, {task, monitor}} <- by_call, do: kill(task, monitor)
    %__MODULE__{spare: spare}
  end

  defp kill(task, monitor) do
    Process.demonitor(monitor, [:flush])
    Process.exit(task, :kill)
  end

  defp forget(open, call, monitor) do
    %{
      open
      | by_call: Map.delete(open.by_call, call),
        by_monitor: Map.delete(open.by_monitor, monitor)
    }
  end
end
