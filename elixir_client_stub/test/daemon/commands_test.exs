defmodule DSPyBridge.CommandsTest do
  @moduledoc "Every command, through its function."

  use DSPyBridge.Test.Daemon, async: true

  @river %{
    id: "river",
    type: "predict",
    signature: "context: list[str], question -> answer"
  }

  setup_all %{bridge: bridge} do
    DSPyBridge.configure!(bridge, %{lms: %{lexical: %{provider: "embedded", model: "lexical"}}})
    DSPyBridge.create_module!(bridge, Map.put(@river, :lm, "lexical"))
    qa(bridge)
    :ok
  end

  test "info is what hello told", %{bridge: bridge} do
    assert {:ok, %{"protocol" => 2, "server" => %{"name" => "dspy-bridge"}} = info} =
             DSPyBridge.info(bridge)

    assert is_list(info["commands"])
    assert :ok = DSPyBridge.await_ready(bridge)
  end

  test "ping gives back what it was given", %{bridge: bridge} do
    assert DSPyBridge.ping(bridge) == {:ok, %{}}
    assert DSPyBridge.ping(bridge, %{n: 1}) == {:ok, %{"n" => 1}}
    assert DSPyBridge.ping!(bridge, %{raw: <<255, 0>>}) == %{"raw" => <<255, 0>>}
  end

  test "configure tells which LMs there are", %{bridge: bridge} do
    assert {:ok, %{"status" => "configured", "lms" => lms}} =
             DSPyBridge.configure(bridge, %{adapter: "chat"})

    assert "lexical" in lms
  end

  test "create_module and forward", %{bridge: bridge} do
    assert {:ok, %{"id" => "river", "version" => version}} =
             DSPyBridge.create_module(bridge, Map.put(@river, :lm, "lexical"))

    assert is_binary(version)

    assert {:ok, %{"answer" => answer, "_meta" => meta}} =
             DSPyBridge.forward(bridge, "river",
               context: ["The Nile flows through Cairo."],
               question: "What flows through Cairo?"
             )

    assert answer =~ "Nile"
    assert %{"embedded/lexical" => %{"calls" => 1}} = meta["usage"]
  end

  test "forward takes config, an LM, a tenant, a trace and a budget", %{bridge: bridge} do
    inputs = %{question: "why?"}

    assert {:ok, %{"_meta" => %{"trace" => [_row], "usage" => usage}}} =
             DSPyBridge.forward(bridge, "qa", inputs,
               config: %{temperature: 0.5},
               lm: %{provider: "embedded", model: "lexical"},
               tenant: "acme",
               trace: true,
               budget: %{lm_calls: 5},
               deadline_ms: 60_000
             )

    assert Map.keys(usage) == ["embedded/lexical"]

    assert {:error, %Error{code: :budget_exceeded}} =
             DSPyBridge.forward(bridge, "qa", inputs, budget: %{lm_calls: 0})
  end

  test "create_program and execute", %{bridge: bridge} do
    assert {:ok, %{"id" => "chain"}} =
             DSPyBridge.create_program(bridge, %{id: "chain", modules: [%{id: "qa", name: "qa"}]})

    assert {:ok, %{"answer" => _}} = DSPyBridge.execute(bridge, "chain", %{question: "why?"})
  end

  test "batch gives rows in order", %{bridge: bridge} do
    rows = for n <- 1..5, do: [question: "number #{n}"]

    assert {:ok, %{"rows" => got}} =
             DSPyBridge.batch(bridge, {:module, "qa"}, rows, max_concurrency: 2)

    assert Enum.map(got, & &1["index"]) == [0, 1, 2, 3, 4]
    assert Enum.all?(got, &match?(%{"outputs" => %{"answer" => _}, "error" => nil}, &1))
  end

  test "generate, generate_batch and count_tokens", %{bridge: bridge} do
    assert {:ok, %{"text" => text}} = DSPyBridge.generate(bridge, "Say hello")
    assert is_binary(text)

    messages = [%{role: "user", content: "Say hello"}]
    assert %{"text" => _} = DSPyBridge.generate!(bridge, messages, options: %{max_tokens: 5})
    assert {:ok, %{"texts" => [_, _]}} = DSPyBridge.generate_batch(bridge, ["a", "b"])
    assert {:ok, %{"tokens" => tokens}} = DSPyBridge.count_tokens(bridge, "one two three")
    assert tokens > 0
    assert {:ok, %{"tokens" => _}} = DSPyBridge.count_tokens(bridge, messages)
  end

  test "get, list, export, import_specs and delete", %{bridge: bridge} do
    DSPyBridge.create_module!(bridge, %{id: "old", type: "predict", signature: "a -> b"})
    assert {:ok, %{"id" => "old", "type" => "predict"}} = DSPyBridge.get(bridge, :module, "old")
    assert {:ok, %{"modules" => modules}} = DSPyBridge.list(bridge, kind: :module)
    assert Enum.any?(modules, &(&1["id"] == "old"))

    assert {:ok, %{"modules" => [_]} = exported} = DSPyBridge.export(bridge, modules: ["old"])
    assert {:ok, %{"deleted" => true}} = DSPyBridge.delete(bridge, :module, "old")
    assert {:error, %Error{code: :not_found}} = DSPyBridge.get(bridge, :module, "old")

    assert {:ok, %{"modules" => 1}} =
             DSPyBridge.import_specs(bridge, Map.delete(exported, "_meta"))

    assert {:ok, _} = DSPyBridge.get(bridge, "module", "old")
  end

  test "put_dataset, evaluate and optimize", %{bridge: bridge} do
    examples = for n <- 1..6, do: %{question: "is #{n} a number?", answer: "yes"}
    assert {:ok, %{"count" => 4}} = DSPyBridge.put_dataset(bridge, "set", Enum.take(examples, 4))

    assert {:ok, %{"count" => 6}} =
             DSPyBridge.put_dataset(bridge, "set", Enum.drop(examples, 4), append: true)

    assert {:ok, %{"total" => 6, "rows" => rows, "score" => score}} =
             DSPyBridge.evaluate(bridge, %{module_id: "qa", devset: "set", metric: "exact_match"})

    assert length(rows) == 6
    assert is_number(score)

    test = self()

    assert {:ok, %{"status" => "completed", "run_id" => "run-1"}} =
             DSPyBridge.optimize(
               bridge,
               %{
                 run_id: "run-1",
                 module_id: "qa",
                 optimizer: "BootstrapFewShot",
                 trainset: "set",
                 metric: "exact_match",
                 keep: "new"
               },
               on_event: fn name, data -> send(test, {name, data}) end
             )

    assert_received {"progress", %{"run_id" => "run-1", "phase" => _}}
    assert {:ok, %{"runs" => runs}} = DSPyBridge.run_list(bridge)
    assert Enum.any?(runs, &(&1["run_id"] == "run-1"))
    assert {:ok, %{"status" => "completed"}} = DSPyBridge.run_get(bridge, "run-1")
    assert {:error, %Error{code: :not_found}} = DSPyBridge.run_stop(bridge, "no-such-run")
  end

  test "a detached run is heard of by those who subscribed", %{bridge: bridge} do
    :ok = DSPyBridge.subscribe(bridge)
    :ok = DSPyBridge.subscribe(bridge)
    trainset = for n <- 1..4, do: %{question: "is #{n} a number?", answer: "yes"}

    assert {:ok, %{"run_id" => run_id, "status" => "running"}} =
             DSPyBridge.optimize(bridge, %{
               module_id: "qa",
               optimizer: "LabeledFewShot",
               trainset: trainset,
               metric: "exact_match",
               detach: true
             })

    assert_receive {DSPyBridge, ^bridge, {:event, "progress", %{"run_id" => ^run_id}}}, 60_000
    completed = fn -> DSPyBridge.run_get!(bridge, run_id)["status"] == "completed" end
    eventually(completed, 60_000)
    :ok = DSPyBridge.unsubscribe(bridge)
  end

  test "history, usage and stats", %{bridge: bridge} do
    DSPyBridge.forward!(bridge, "qa", %{question: "seen?"})
    assert {:ok, %{"rows" => [row]}} = DSPyBridge.history(bridge, limit: 1, module_id: "qa")
    assert row["module_id"] == "qa"
    assert {:ok, %{}} = DSPyBridge.usage(bridge)
    assert {:ok, %{"rss" => rss}} = DSPyBridge.stats(bridge)
    assert rss > 0
  end

  test "call sends any command, and a failure has a code and where it is", %{bridge: bridge} do
    assert {:error, %Error{code: :unknown_command, details: %{"nearest" => "forward"}}} =
             DSPyBridge.call(bridge, "forword", %{})

    assert {:error, %Error{code: :invalid_args, details: %{"faults" => [%{"path" => path}]}}} =
             DSPyBridge.create_module(bridge, %{
               id: "x",
               type: "predict",
               signature: "a -> b: flaot"
             })

    assert path =~ "signature"

    assert_raise Error, ~r/^not_found: /, fn ->
      DSPyBridge.forward!(bridge, "nobody", %{})
    end
  end

  test "an option that a command does not have is refused with the nearest", %{bridge: bridge} do
    assert_raise ArgumentError, ~r/did you mean :timeout\?/, fn ->
      DSPyBridge.forward(bridge, "qa", %{}, timeuot: 5)
    end

    assert_raise ArgumentError, ~r/unknown option :append/, fn ->
      DSPyBridge.forward(bridge, "qa", %{}, append: true)
    end
  end

  test "shutdown ends the daemon in good order, and a fresh one has the specs" do
    bridge = start_supervised!({DSPyBridge, options()}, id: :shut_down)
    qa(bridge)
    before = os_pid(bridge)
    assert {:ok, _} = DSPyBridge.shutdown(bridge, grace_ms: 1_000)
    eventually(fn -> match?({:ok, pid} when pid != before, daemon(bridge)) end)
    assert {:ok, %{"answer" => _}} = DSPyBridge.forward(bridge, "qa", %{question: "still there?"})
  end

  defp daemon(bridge),
    do: with({:ok, info} <- DSPyBridge.info(bridge), do: {:ok, info["server"]["pid"]})
end
