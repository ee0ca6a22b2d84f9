defmodule DSPyBridge.CrashTest do
  @moduledoc "The daemon dies; what was created is there again before anything else runs."

  use DSPyBridge.Test.Daemon, async: true

  alias DSPyBridge.Test.LMServer

  setup do
    server = start_supervised!(LMServer)
    configure = %{lm: LMServer.lm(server, "ok")}
    bridge = start_supervised!({DSPyBridge, options(configure: configure)}, id: :crashing)
    %{bridge: bridge, server: server}
  end

  test "everything that was created is sent again, in an order that works", %{bridge: bridge} do
    DSPyBridge.configure!(bridge, %{lms: %{echo: %{provider: "embedded", model: "echo"}}})
    DSPyBridge.configure!(bridge, %{lms: %{other: %{provider: "embedded", model: "lexical"}}})
    qa(bridge, "first")
    DSPyBridge.create_program!(bridge, %{id: "p", modules: [%{id: "first", name: "first"}]})
    # A module that stands for a program, and a program over it: no kind comes first as a whole.
    DSPyBridge.create_module!(bridge, %{id: "again", type: "custom", config: %{program: "p"}})
    DSPyBridge.create_program!(bridge, %{id: "outer", modules: [%{id: "again", name: "again"}]})
    # Its new signature must not lose its place, its new LM must be known by then.
    DSPyBridge.create_module!(bridge, %{
      id: "first",
      type: "predict",
      signature: "question -> answer",
      lm: "other"
    })

    DSPyBridge.put_dataset!(bridge, "set", [%{question: "a", answer: "b"}])
    DSPyBridge.put_dataset!(bridge, "set", [%{question: "c", answer: "d"}], append: true)
    qa(bridge, "gone")
    DSPyBridge.delete!(bridge, :module, "gone")
    before = Map.delete(DSPyBridge.list!(bridge), "_meta")

    old = kill_daemon(bridge)

    assert Map.delete(DSPyBridge.list!(bridge, retry: true), "_meta") == before
    assert os_pid(bridge) != old
    assert {:ok, %{"answer" => _}} = DSPyBridge.execute(bridge, "outer", %{question: "why?"})
    assert %{"lms" => ["echo", "other"]} = DSPyBridge.configure!(bridge, %{})
  end

  test "an imported spec, and what an optimizer taught, survive", %{bridge: bridge} do
    exported = %{modules: [%{id: "in", type: "predict", signature: "question -> answer"}]}
    DSPyBridge.import_specs!(bridge, exported)
    DSPyBridge.configure!(bridge, %{lm: %{provider: "embedded", model: "echo"}})
    examples = for n <- 1..4, do: %{question: "q#{n}", answer: "a#{n}"}

    result =
      DSPyBridge.optimize!(bridge, %{
        module_id: "in",
        optimizer: "LabeledFewShot",
        trainset: examples,
        metric: "exact_match"
      })

    demos = result["module_demos"]["in"]
    assert length(demos) == 4
    learned = DSPyBridge.get!(bridge, :module, "in")

    kill_daemon(bridge)

    assert DSPyBridge.get!(bridge, :module, "in", retry: true)["state"] == learned["state"]
    assert DSPyBridge.get!(bridge, :module, "in")["version"] == learned["version"]
  end

  test "a call in flight fails with worker_died", %{bridge: bridge, server: server} do
    qa(bridge)
    lm = LMServer.lm(server, "stall")
    task = Task.async(fn -> DSPyBridge.forward(bridge, "qa", %{question: "?"}, lm: lm) end)
    eventually(fn -> LMServer.requests(server) != [] end)
    kill_daemon(bridge)

    assert {:error, %Error{code: :worker_died, retriable: true} = error} =
             Task.await(task, 60_000)

    assert error.details["reason"] == "exit status 137"
    assert in_flight(bridge) == 0
  end

  test "with retry a call in flight is repeated on the fresh daemon", context do
    %{bridge: bridge, server: server} = context
    qa(bridge)
    lm = LMServer.lm(server, "slow-1500")

    tasks =
      for n <- 1..10 do
        Task.async(fn ->
          DSPyBridge.forward(bridge, "qa", %{question: "#{n}?"}, lm: lm, retry: true)
        end)
      end

    eventually(fn -> length(LMServer.requests(server)) >= 10 end)
    kill_daemon(bridge)
    assert Enum.all?(Task.await_many(tasks, 120_000), &match?({:ok, %{"answer" => _}}, &1))
  end

  test "a run that the daemon's death broke off goes on where it was",
       %{bridge: bridge} = context do
    qa(bridge)
    lm = LMServer.lm(context.server, "slow-300")
    examples = for n <- 1..40, do: %{question: "q#{n}", answer: "a#{n}"}

    args = %{
      run_id: "broken-#{System.unique_integer([:positive])}",
      module_id: "qa",
      optimizer: "BootstrapFewShot",
      trainset: examples,
      metric: "exact_match",
      max_concurrency: 2
    }

    task = Task.async(fn -> DSPyBridge.optimize(bridge, args, lm: lm) end)
    eventually(fn -> length(LMServer.requests(context.server)) >= 4 end, 60_000)
    kill_daemon(bridge)
    assert {:error, %Error{code: :worker_died}} = Task.await(task, 60_000)

    assert {:ok, %{"status" => "completed", "stats" => stats}} =
             DSPyBridge.optimize(bridge, %{resume: args.run_id},
               lm: LMServer.lm(context.server, "slow-300")
             )

    assert stats["cached_calls"] >= 1
  end

  test "a daemon that cannot be kept up fails calls at once, until one can" do
    flag = Path.join(System.tmp_dir!(), "dspy-bridge-flag-#{System.unique_integer([:positive])}")
    {:ok, python} = python()
    script = "test -e #{flag} && exec #{python} -m bridge; exit 7"

    bridge =
      start_supervised!(
        {DSPyBridge, command: ["/bin/sh", "-c", script, "sh"], backoff: {1, 50}, max_failures: 3},
        id: :failing
      )

    eventually(fn ->
      match?({:error, %Error{code: :worker_died}}, DSPyBridge.ping(bridge, %{}, timeout: 5_000))
    end)

    assert {:error, %Error{message: message}} = DSPyBridge.ping(bridge)
    assert message =~ "exit status 7"

    File.touch!(flag)
    on_exit(fn -> File.rm(flag) end)
    eventually(fn -> match?({:ok, _}, DSPyBridge.ping(bridge)) end)
  end

  test "a daemon that hangs is killed, and calls go on with another" do
    bridge =
      start_supervised!(
        {DSPyBridge, options(health_interval: 200, health_timeout: 15_000)},
        id: :hanging
      )

    qa(bridge)
    old = os_pid(bridge)
    System.cmd("kill", ["-STOP", "#{old}"])

    assert {:ok, %{"answer" => _}} =
             DSPyBridge.forward(bridge, "qa", %{question: "?"}, retry: true, timeout: 120_000)

    assert os_pid(bridge) != old
    refute alive?(old)
  end

  test "the owner's own crash is mended: the specs are kept by its supervisor", %{bridge: bridge} do
    qa(bridge)
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
    owner = GenServer.whereis(DSPyBridge.Bridge.part(tables, :owner))
    ref = Process.monitor(owner)
    Process.exit(owner, :kill)
    assert_receive {:DOWN, ^ref, :process, _, :killed}

    eventually(fn ->
      match?(
        {:ok, _},
        DSPyBridge.forward(bridge, "qa", %{question: "?"},
          lm: %{provider: "embedded", model: "echo"}
        )
      )
    end)
  end
end
