defmodule DSPyBridge.DeathTest do
  @moduledoc "When the BEAM is killed, nothing that it started is left."

  use ExUnit.Case, async: true

  import DSPyBridge.Test.Daemon

  alias DSPyBridge.Test.LMServer

  @moduletag :daemon
  @script Path.expand("../support/mortal.exs", __DIR__)

  # The promise, in milliseconds.
  @within 3_000

  setup do
    %{server: start_supervised!(LMServer)}
  end

  for {busy, wanted} <- [idle: 1, lm: 1, run: 2, sandbox: 2] do
    @tag timeout: 240_000
    @tag busy: busy
    test "a BEAM that is killed while the daemon is busy with #{busy} leaves nothing", %{
      server: server
    } do
      {beam, daemon} = beam(unquote(busy), server)
      begun = begun(unquote(busy), server, daemon)
      eventually(begun, 120_000)
      ours = [daemon | descendants(daemon)]
      assert length(ours) >= unquote(wanted)
      assert Enum.all?(ours, &alive?/1)

      {_output, 0} = System.cmd("kill", ["-KILL", "#{beam}"])

      eventually(fn -> Enum.filter(ours, &alive?/1) == [] end, @within)
    end
  end

  # An LM has been asked; given source runs in a process of its own.
  defp begun(:idle, _server, _daemon), do: fn -> true end
  defp begun(:sandbox, _server, daemon), do: fn -> descendants(daemon) != [] end
  defp begun(_busy, server, _daemon), do: fn -> LMServer.requests(server) != [] end

  defp beam(busy, server) do
    {:ok, python} = python()
    %{base_url: url} = LMServer.lm(server, "stall")
    ebin = :dspy_bridge |> :code.lib_dir() |> Path.join("ebin")
    args = ["-pa", ebin, @script]
    args = args ++ [python, to_string(busy), String.trim_trailing(url, "/v1")]

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 4096,
        args: args
      ])

    daemon = daemon_pid(port, [])
    {parent_of(parent_of(daemon)), daemon}
  end

  defp daemon_pid(port, seen) do
    receive do
      {^port, {:data, {:eol, "pid " <> pid}}} -> String.to_integer(pid)
      {^port, {:data, {_eol, line}}} -> daemon_pid(port, [line | seen])
      {^port, {:exit_status, status}} -> flunk("it ended with #{status}: #{inspect(seen)}")
    after
      120_000 -> flunk("no pid: #{inspect(seen)}")
    end
  end

  # The daemon's parent is erl_child_setup, whose parent is the BEAM.
  defp parent_of(pid) do
    [_name, rest] = "/proc/#{pid}/stat" |> File.read!() |> String.split(") ", parts: 2)
    rest |> String.split(" ") |> Enum.at(1) |> String.to_integer()
  end

  defp descendants(pid) do
    children =
      for dir <- Path.wildcard("/proc/[0-9]*"),
          child = dir |> Path.basename() |> String.to_integer(),
          parent(child) == pid,
          do: child

    children ++ Enum.flat_map(children, &descendants/1)
  end

  defp parent(pid) do
    parent_of(pid)
  rescue
    # It ended in the meantime.
    File.Error -> nil
  end
end
