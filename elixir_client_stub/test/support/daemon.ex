defmodule DSPyBridge.Test.Daemon do
  @moduledoc """
  Tests against the real daemon: `use DSPyBridge.Test.Daemon`.

  Each file has a bridge of its own, in `bridge`, with the embedded LM `echo` as its default.
  """

  use ExUnit.CaseTemplate

  @checkout Path.expand("../../..", __DIR__)

  using do
    quote do
      import DSPyBridge.Test.Daemon
      alias DSPyBridge.Error
      @moduletag :daemon
    end
  end

  setup_all do
    bridge = start_supervised!({DSPyBridge, options()})
    %{bridge: bridge}
  end

  @doc "The repository that has the daemon."
  def checkout, do: @checkout

  @doc "The Python that has it installed."
  def python do
    python = System.get_env("DSPY_BRIDGE_PYTHON") || Path.join(@checkout, ".venv/bin/python")
    python = Path.expand(python, @checkout)
    if File.exists?(python), do: {:ok, python}, else: {:error, "there is no #{python}"}
  end

  @doc "Options of a bridge for tests, and more."
  def options(more \\ []) do
    {:ok, python} = python()

    Keyword.merge(
      [
        python: python,
        state_dir: state_dir(),
        configure: %{lm: %{provider: "embedded", model: "echo"}}
      ],
      more
    )
  end

  # One for the whole run: a run of an optimizer is looked for there.
  defp state_dir do
    dir = Path.join(System.tmp_dir!(), "dspy-bridge-exunit-#{System.pid()}")
    File.mkdir_p!(dir)
    dir
  end

  @doc "Waits until something holds; the time is a bound, not a measure."
  def eventually(fun, deadline \\ 30_000) do
    cond do
      result = fun.() ->
        result

      deadline <= 0 ->
        ExUnit.Assertions.flunk("it did not come to hold within the time")

      true ->
        Process.sleep(20)
        eventually(fun, deadline - 20)
    end
  end

  @doc "The daemon's process."
  def os_pid(bridge), do: DSPyBridge.info!(bridge)["server"]["pid"]

  @doc "Ends the daemon as the out-of-memory killer would."
  def kill_daemon(bridge) do
    pid = os_pid(bridge)
    {_output, 0} = System.cmd("kill", ["-KILL", "#{pid}"])
    eventually(fn -> not alive?(pid) end)
    pid
  end

  @doc "Whether a process is there, and no zombie."
  def alive?(pid) do
    case File.read("/proc/#{pid}/stat") do
      {:ok, stat} -> not (stat =~ ~r/\) [ZX] /)
      {:error, _} -> false
    end
  end

  @doc "How many requests the owner keeps track of; 0 when nothing is in flight."
  def in_flight(bridge) do
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
    :ets.info(tables.calls, :size)
  end

  def qa(bridge, id \\ "qa") do
    DSPyBridge.create_module!(bridge, %{id: id, type: "predict", signature: "question -> answer"})
  end
end
