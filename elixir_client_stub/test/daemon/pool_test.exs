defmodule DSPyBridge.PoolTest do
  use DSPyBridge.Test.Daemon, async: true

  alias DSPyBridge.Pool

  @pool DSPyBridge.PoolTest.Pool

  setup_all do
    start_supervised!({Pool, options(name: @pool, size: 2)})
    :ok = DSPyBridge.await_ready(@pool)
    qa(@pool)
    :ok
  end

  test "what is created is in every member" do
    members = Pool.members(@pool)
    assert length(Enum.uniq_by(members, &os_pid/1)) == 2
    for bridge <- members, do: assert({:ok, _} = DSPyBridge.get(bridge, :module, "qa"))
  end

  test "calls go to the members in turn, and those with a key to the same" do
    pids = fn opts -> for _ <- 1..6, uniq: true, do: pid(opts) end
    assert length(pids.([])) == 2
    assert [one] = pids.(key: "conversation-1")
    assert one == os_pid(Pool.member(@pool, "conversation-1"))
  end

  test "what is refused by a member is refused" do
    assert {:error, %Error{code: :invalid_args}} =
             DSPyBridge.create_module(@pool, %{id: "x", type: "predict", signature: "?"})
  end

  test "a member that died comes back with everything, the others go on" do
    [first, second] = Pool.members(@pool)
    kill_daemon(first)
    assert {:ok, _} = DSPyBridge.ping(second)
    assert {:ok, _} = DSPyBridge.get(first, :module, "qa", retry: true)

    for _ <- 1..4,
        do: assert({:ok, _} = DSPyBridge.forward(@pool, "qa", %{question: "?"}, retry: true))
  end

  test "what a run teaches is taught to every member, and the run is found by its id" do
    qa(@pool, "learner")

    result =
      DSPyBridge.optimize!(@pool, %{
        module_id: "learner",
        optimizer: "LabeledFewShot",
        trainset: [%{question: "a", answer: "b"}],
        metric: "exact_match"
      })

    assert {:ok, %{"status" => "completed"}} = DSPyBridge.run_get(@pool, result["run_id"])

    for bridge <- Pool.members(@pool) do
      assert [_demo] = DSPyBridge.get!(bridge, :module, "learner")["state"]["demos"]
    end
  end

  test "callbacks and streams take the pool's name" do
    assert :ok = DSPyBridge.register(@pool, :metric, "m", fn _, _ -> 1 end)
    assert :ok = DSPyBridge.unregister(@pool, :metric, "m")
  end

  test "a pool wants a name and a size" do
    assert_raise ArgumentError, ~r/:name/, fn -> Pool.start_link(size: 1) end
    assert_raise ArgumentError, ~r/:size/, fn -> Pool.start_link(name: :x, size: 0) end

    assert_raise ArgumentError, ~r/did you mean :python/, fn ->
      Pool.child_spec(name: :x, pyhton: "")
    end
  end

  defp pid(opts),
    do: DSPyBridge.call!(@pool, "hello", %{protocol: [2]}, opts)["server"]["pid"]
end
