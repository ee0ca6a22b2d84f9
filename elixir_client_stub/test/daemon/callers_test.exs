defmodule DSPyBridge.CallersTest do
  @moduledoc "Many callers, large payloads, and callers who leave."

  use DSPyBridge.Test.Daemon, async: true

  alias DSPyBridge.Test.LMServer

  setup_all %{bridge: bridge} do
    server = start_supervised!(LMServer)
    DSPyBridge.configure!(bridge, %{lms: %{slow: LMServer.lm(server, "slow-300")}})
    qa(bridge)
    :ok = DSPyBridge.await_ready(bridge)
    %{server: server}
  end

  test "200 callers at once each get their own answer", %{bridge: bridge} do
    tasks =
      for n <- 1..200 do
        Task.async(fn -> {n, DSPyBridge.ping!(bridge, %{n: n, pad: String.duplicate("x", n)})} end)
      end

    for {n, answer} <- Task.await_many(tasks, 60_000) do
      assert answer == %{"n" => n, "pad" => String.duplicate("x", n)}
    end

    assert in_flight(bridge) == 0
  end

  test "200 callers wait for a slow LM side by side", %{bridge: bridge, server: server} do
    tasks =
      for n <- 1..200 do
        Task.async(fn ->
          DSPyBridge.forward(bridge, "qa", %{question: "number #{n}"}, lm: "slow")
        end)
      end

    assert Enum.all?(Task.await_many(tasks, 120_000), &match?({:ok, %{"answer" => _}}, &1))
    assert LMServer.stats(server)["peak_in_flight"] > 50
  end

  test "20 MB go there and back, and hold nobody up", %{bridge: bridge} do
    payload = %{
      text: String.duplicate("0123456789", 2_000_000),
      bytes: :binary.copy(<<255>>, 1_000)
    }

    large = Task.async(fn -> DSPyBridge.ping!(bridge, payload, timeout: 120_000) end)

    for n <- 1..50, do: assert(DSPyBridge.ping!(bridge, %{n: n}) == %{"n" => n})

    answer = Task.await(large, 120_000)
    assert answer["text"] == payload.text
    assert answer["bytes"] == payload.bytes
  end

  test "a request over the largest frame is refused before it is sent", %{bridge: bridge} do
    most = DSPyBridge.info!(bridge)["limits"]["max_frame"]

    assert {:error, %Error{code: :frame_too_large}} =
             DSPyBridge.ping(bridge, %{text: :binary.copy("x", most)})

    assert {:ok, _} = DSPyBridge.ping(bridge)
  end

  test "what has no form on the wire is refused with its path", %{bridge: bridge} do
    assert {:error, %Error{code: :invalid_args, details: %{"faults" => [%{"path" => path}]}}} =
             DSPyBridge.forward(bridge, "qa", %{question: self()})

    assert path == "args.inputs.question"
    assert in_flight(bridge) == 0
  end

  describe "a request that nobody waits for any more" do
    setup %{bridge: bridge, server: server} do
      before = LMServer.stats(server)["closed_early"]
      lm = LMServer.lm(server, "stall")
      seen = length(LMServer.requests(server))

      begun = fn -> eventually(fn -> length(LMServer.requests(server)) > seen end) end
      broken_off = fn -> eventually(fn -> LMServer.stats(server)["closed_early"] > before end) end

      forward = fn opts ->
        DSPyBridge.forward(bridge, "qa", %{question: "?"}, [lm: lm] ++ opts)
      end

      %{begun: begun, broken_off: broken_off, forward: forward}
    end

    test "a caller that is killed breaks off its LM call", %{bridge: bridge} = context do
      caller = spawn(fn -> context.forward.([]) end)
      context.begun.()
      Process.exit(caller, :kill)
      context.broken_off.()
      eventually(fn -> in_flight(bridge) == 0 end)
    end

    test "a caller that times out breaks off its LM call", %{bridge: bridge} = context do
      task =
        Task.async(fn -> {context.forward.(timeout: 5_000), Process.info(self(), :messages)} end)

      context.begun.()
      assert {{:error, %Error{code: :timeout}}, {:messages, []}} = Task.await(task, 30_000)
      context.broken_off.()
      eventually(fn -> in_flight(bridge) == 0 end)
    end

    test "a deadline is the daemon's own answer", context do
      task = Task.async(fn -> context.forward.(deadline_ms: 5_000) end)
      context.begun.()
      assert {:error, %Error{code: :deadline_exceeded}} = Task.await(task, 30_000)
      context.broken_off.()
    end
  end

  test "a caller that is killed while it creates a module leaves both sides agreed", %{
    bridge: bridge
  } do
    for n <- 1..20 do
      caller = spawn(fn -> qa(bridge, "half-#{n}") end)
      Process.exit(caller, :kill)
    end

    DSPyBridge.ping!(bridge)
    eventually(fn -> in_flight(bridge) == 0 end)
    there = for %{"id" => "half-" <> _ = id} <- DSPyBridge.list!(bridge)["modules"], do: id
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
    kept = for {{"module", "half-" <> _ = id}, _, _} <- :ets.tab2list(tables.specs), do: id
    assert Enum.sort(there) == Enum.sort(kept)
  end

  test "a bridge that is not there, or was stopped, is an error", %{bridge: _} do
    assert {:error, %Error{code: :not_running}} = DSPyBridge.ping(:no_such_bridge)
    stopped = start_supervised!({DSPyBridge, options()}, id: :stopped)
    DSPyBridge.ping!(stopped)
    pid = os_pid(stopped)
    assert :ok = stop_supervised(:stopped)
    assert {:error, %Error{code: :not_running}} = DSPyBridge.ping(stopped)
    refute alive?(pid)
  end

  test "requests in flight finish while the bridge stops", %{server: server} do
    bridge = start_supervised!({DSPyBridge, options()}, id: :stopping)
    qa(bridge)
    lm = LMServer.lm(server, "slow-1000")
    seen = length(LMServer.requests(server))
    task = Task.async(fn -> DSPyBridge.forward(bridge, "qa", %{question: "?"}, lm: lm) end)
    eventually(fn -> length(LMServer.requests(server)) > seen end)
    assert :ok = stop_supervised(:stopping)
    assert {:ok, %{"answer" => _}} = Task.await(task)
  end
end
