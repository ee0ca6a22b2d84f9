defmodule DSPyBridge.FakeDaemonTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias DSPyBridge.{Chunk, Error, FakeDaemon}

  setup do
    fake = start_supervised!(FakeDaemon)
    bridge = start_supervised!({DSPyBridge, fake: fake, backoff: {1, 10}})
    %{fake: fake, bridge: bridge}
  end

  defp create(bridge, id \\ "qa"),
    do:
      {:ok, _} =
        DSPyBridge.create_module(bridge, %{
          id: id,
          type: "predict",
          signature: "question -> answer"
        })

  describe "answers" do
    test "a module gives the fields it was told to", %{fake: fake, bridge: bridge} do
      create(bridge)
      FakeDaemon.answer(fake, "qa", %{answer: "4"})

      assert {:ok, %{"answer" => "4"}} = DSPyBridge.forward(bridge, "qa", %{question: "2+2?"})
      assert {:ok, %{"answer" => "4"}} = DSPyBridge.forward(bridge, "qa", %{question: "again"})
    end

    test "a function is given the inputs with string keys", %{fake: fake, bridge: bridge} do
      create(bridge)
      FakeDaemon.answer(fake, "qa", fn %{"question" => q} -> %{answer: String.upcase(q)} end)

      assert {:ok, %{"answer" => "HI"}} = DSPyBridge.forward(bridge, "qa", question: "hi")
    end

    test "of a list each call takes the next, and the last stays", %{fake: fake, bridge: bridge} do
      create(bridge)
      FakeDaemon.answer(fake, "qa", [{:error, :lm_rate_limited}, %{answer: "1"}, %{answer: "2"}])

      assert {:error, %Error{code: :lm_rate_limited, retriable: true}} = forward(bridge)
      assert for(_ <- 1..3, do: answer(bridge)) == ["1", "2", "2"]
    end

    test "two functions run at the same time", %{fake: fake, bridge: bridge} do
      create(bridge)
      test = self()

      FakeDaemon.answer(fake, "qa", fn %{"question" => question} ->
        send(test, {question, self()})
        receive do: (:go -> %{answer: question})
      end)

      one = Task.async(fn -> DSPyBridge.forward(bridge, "qa", %{question: "1"}) end)
      two = Task.async(fn -> DSPyBridge.forward(bridge, "qa", %{question: "2"}) end)
      assert_receive {"1", first}
      assert_receive {"2", second}
      send(second, :go)
      assert {:ok, %{"answer" => "2"}} = Task.await(two)
      send(first, :go)
      assert {:ok, %{"answer" => "1"}} = Task.await(one)
    end

    test "a module that was never created is not found", %{bridge: bridge} do
      assert {:error, %Error{code: :not_found, details: %{"need" => "spec"}}} = forward(bridge)
    end

    test "a module without an answer says what to do", %{bridge: bridge} do
      create(bridge)
      assert {:error, %Error{code: :unsupported, message: message}} = forward(bridge)
      assert message =~ "qa"
    end

    test "a batch asks once a row", %{fake: fake, bridge: bridge} do
      create(bridge)

      FakeDaemon.answer(fake, "qa", fn
        %{"question" => "bad"} -> {:error, :adapter_parse, "no fields"}
        %{"question" => question} -> %{answer: question}
      end)

      rows = [%{question: "a"}, %{question: "bad"}]
      assert {:ok, %{"rows" => [first, second]}} = DSPyBridge.batch(bridge, {:module, "qa"}, rows)
      assert %{"index" => 0, "outputs" => %{"answer" => "a"}, "error" => nil} = first
      assert %{"index" => 1, "error" => %{"code" => "adapter_parse"}} = second
    end
  end

  describe "stubs" do
    test "any command can be answered", %{fake: fake, bridge: bridge} do
      FakeDaemon.stub(fake, :generate, fn %{"prompt" => prompt} -> %{text: prompt <> "!"} end)
      assert {:ok, %{"text" => "hi!"}} = DSPyBridge.generate(bridge, "hi")
    end

    test "every code of the daemon comes as that code", %{fake: fake, bridge: bridge} do
      for code <- Error.codes() -- [:timeout, :not_running, :unknown_code] do
        FakeDaemon.stub(fake, "generate", {:error, code, "told"})
        assert {:error, %Error{code: ^code, message: "told"}} = DSPyBridge.generate(bridge, "hi")
      end
    end

    test "an error keeps its details", %{fake: fake, bridge: bridge} do
      error = Error.new(:lm_rate_limited, "slowly", retry_after_ms: 250, details: %{"a" => 1})
      FakeDaemon.stub(fake, "generate", {:error, error})

      assert {:error, %Error{retriable: true, retry_after_ms: 250, details: %{"a" => 1}}} =
               DSPyBridge.generate(bridge, "hi")
    end

    test "a command without a stub says so", %{bridge: bridge} do
      assert {:error, %Error{code: :unsupported, message: message}} =
               DSPyBridge.evaluate(bridge, %{module_id: "qa", devset: [], metric: "exact_match"})

      assert message =~ "evaluate"
    end

    test "what raises is answered and logged", %{fake: fake, bridge: bridge} do
      FakeDaemon.stub(fake, "generate", fn _args -> raise "out of cheese" end)

      assert capture_log(fn ->
               assert {:error, %Error{code: :internal, message: "out of cheese"}} =
                        DSPyBridge.generate(bridge, "hi")
             end) =~ "out of cheese"
    end

    test "what cannot be an answer is refused at once", %{fake: fake} do
      assert_raise ArgumentError, fn -> FakeDaemon.stub(fake, "generate", :ok) end
      assert_raise ArgumentError, fn -> FakeDaemon.stub(fake, "generate", fn -> %{} end) end
      assert_raise ArgumentError, fn -> FakeDaemon.answer(fake, "qa", {:error, :no_such_code}) end
    end
  end

  describe "what was asked" do
    test "is kept in order, with its envelope", %{fake: fake, bridge: bridge} do
      create(bridge)
      FakeDaemon.answer(fake, "qa", %{answer: "4"})
      {:ok, _} = DSPyBridge.forward(bridge, "qa", %{question: "2+2?"}, tenant: "acme")

      assert [%{command: "create_module"}, %{command: "forward"} = forward] =
               FakeDaemon.calls(fake)

      assert forward.args == %{"module_id" => "qa", "inputs" => %{"question" => "2+2?"}}
      assert forward.envelope == %{"tenant" => "acme"}
      assert [^forward] = FakeDaemon.calls(fake, :forward)
      FakeDaemon.clear(fake)
      assert FakeDaemon.calls(fake) == []
    end

    test "specs come back as they were given", %{bridge: bridge} do
      create(bridge)
      assert {:ok, %{"type" => "predict", "id" => "qa"}} = DSPyBridge.get(bridge, :module, "qa")
      assert {:ok, %{"modules" => [%{"id" => "qa"}]}} = DSPyBridge.list(bridge)
      assert {:ok, exported} = DSPyBridge.export(bridge)
      assert {:ok, %{"deleted" => true}} = DSPyBridge.delete(bridge, :module, "qa")
      assert {:error, %Error{code: :not_found}} = DSPyBridge.get(bridge, :module, "qa")
      assert {:ok, _} = DSPyBridge.import_specs(bridge, exported)
      assert {:ok, %{"type" => "predict"}} = DSPyBridge.get(bridge, :module, "qa")
    end

    test "datasets grow", %{bridge: bridge} do
      assert {:ok, %{"count" => 1}} = DSPyBridge.put_dataset(bridge, "d", [%{q: 1}])

      assert {:ok, %{"count" => 3}} =
               DSPyBridge.put_dataset(bridge, "d", [%{q: 2}, %{q: 3}], append: true)
    end
  end

  describe "while it works" do
    test "events come to the caller before the answer", %{fake: fake, bridge: bridge} do
      FakeDaemon.stub(fake, "optimize", fn _args, request ->
        for trial <- 1..3, do: FakeDaemon.event(request, "progress", %{trial: trial})
        %{status: "completed", score: 0.75}
      end)

      test = self()
      note = fn "progress", %{"trial" => trial} -> send(test, {:trial, trial}) end
      args = %{module_id: "qa", optimizer: "GEPA", trainset: []}

      assert {:ok, %{"score" => 0.75}} = DSPyBridge.optimize(bridge, args, on_event: note)
      for trial <- 1..3, do: assert_received({:trial, ^trial})
    end

    test "a stream says the words of the text fields", %{fake: fake, bridge: bridge} do
      create(bridge)
      FakeDaemon.answer(fake, "qa", %{answer: "Paris is the capital.", score: 1.0})

      items = bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}) |> Enum.to_list()
      assert {:done, %{"answer" => "Paris is the capital."}} = List.last(items)
      said = for {:chunk, %Chunk{field: "answer", text: text}} <- items, do: text
      assert said == ["Paris ", "is ", "the ", "capital."]
    end

    test "a metric of the test is called, and may fail", %{fake: fake, bridge: bridge} do
      FakeDaemon.stub(fake, "evaluate", fn %{"metric" => %{"host" => name}}, request ->
        scores =
          for answer <- ["4", "5", "boom"] do
            args = %{example: %{answer: "4"}, prediction: %{answer: answer}, trace: nil}

            case FakeDaemon.call_host(request, "metric", name, args) do
              {:ok, score} -> score
              {:error, message} -> message
            end
          end

        %{scores: scores}
      end)

      metric = fn
        _example, %{"answer" => "boom"} -> {:error, "no score"}
        %{"answer" => wanted}, %{"answer" => got} -> wanted == got
      end

      assert {:ok, %{"scores" => [true, false, "no score"]}} =
               DSPyBridge.evaluate(bridge, %{module_id: "qa", devset: [], metric: metric})
    end

    test "a program whose forward is Elixir runs it", %{fake: fake, bridge: bridge} do
      for id <- ["query", "reader"], do: create(bridge, id)
      FakeDaemon.answer(fake, "query", fn %{"question" => q} -> %{query: "about " <> q} end)
      FakeDaemon.answer(fake, "reader", fn %{"context" => c} -> %{answer: "found " <> c} end)

      forward = fn %{"question" => question}, context ->
        %{"query" => query} = DSPyBridge.forward!(context, "query", %{question: question})
        DSPyBridge.forward!(context, "reader", %{question: question, context: query})
      end

      {:ok, _} =
        DSPyBridge.create_program(bridge, %{
          id: "rag",
          modules: [%{id: "query", name: "query"}, %{id: "reader", name: "reader"}],
          forward: forward
        })

      assert {:ok, %{"answer" => "found about x"}} =
               DSPyBridge.execute(bridge, "rag", %{question: "x"})

      assert [%{envelope: %{"parent" => _}}, %{envelope: %{"parent" => _}}] =
               FakeDaemon.calls(fake, "forward")
    end
  end

  describe "what goes wrong" do
    test "a caller that gives up cancels its request", %{fake: fake, bridge: bridge} do
      test = self()

      FakeDaemon.stub(fake, "generate", fn _args ->
        send(test, {:working, self()})
        Process.sleep(:infinity)
      end)

      caller = spawn(fn -> DSPyBridge.generate(bridge, "hi") end)
      assert_receive {:working, worker}
      gone = Process.monitor(worker)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^gone, :process, ^worker, :killed}
      assert {:ok, _} = DSPyBridge.stats(bridge)
    end

    test "what is never answered times out", %{fake: fake, bridge: bridge} do
      FakeDaemon.stub(fake, "generate", :never)
      assert {:error, %Error{code: :timeout}} = DSPyBridge.generate(bridge, "hi", timeout: 20)
    end

    @tag :capture_log
    test "after a crash it is there again, with the specs", %{fake: fake, bridge: bridge} do
      create(bridge)
      test = self()

      FakeDaemon.answer(fake, "qa", [
        fn _inputs ->
          send(test, :asked)
          Process.sleep(:infinity)
        end,
        %{answer: "4"}
      ])

      caller = Task.async(fn -> forward(bridge) end)
      assert_receive :asked
      FakeDaemon.crash(fake)
      assert {:error, %Error{code: :worker_died, retriable: true}} = Task.await(caller)

      assert answer(bridge) == "4"
      assert length(FakeDaemon.calls(fake, "create_module")) == 2
    end

    @tag :capture_log
    test "a call with retry outlives a crash", %{fake: fake, bridge: bridge} do
      create(bridge)

      FakeDaemon.answer(fake, "qa", [
        fn _inputs ->
          FakeDaemon.crash(fake)
          Process.sleep(:infinity)
        end,
        %{answer: "4"}
      ])

      assert {:ok, %{"answer" => "4"}} =
               DSPyBridge.forward(bridge, "qa", %{question: "?"}, retry: true)
    end

    test "a bridge is stopped in good order", %{fake: fake} do
      {:ok, bridge} = DSPyBridge.start_link(fake: fake)
      {:ok, _} = DSPyBridge.ping(bridge)
      assert :ok = DSPyBridge.stop(bridge)
    end

    test "a fake that does not run is told" do
      assert {:error, %Error{message: message}} = DSPyBridge.start_link(fake: :no_such_fake)
      assert message =~ ":no_such_fake"
    end
  end

  test "each member of a pool is a daemon of its own", %{fake: fake} do
    start_supervised!({DSPyBridge.Pool, name: FakePool, size: 2, fake: fake})
    create(FakePool)
    FakeDaemon.answer(fake, "qa", %{answer: "4"})
    assert for(_ <- 1..4, do: answer(FakePool)) == ["4", "4", "4", "4"]
    assert length(FakeDaemon.calls(fake, "create_module")) == 2
  end

  test "it speaks the codec of the bridge", %{fake: fake} do
    for codec <- [:msgpack, :jiffy, :json, :jason, :otp_json],
        match?({:ok, _}, DSPyBridge.Codec.choose(codec)) do
      {:ok, bridge} = DSPyBridge.start_link(fake: fake, codec: codec)
      assert {:ok, %{"ü" => [1, 2.5, nil]}} = DSPyBridge.ping(bridge, %{"ü" => [1, 2.5, nil]})
      DSPyBridge.stop(bridge)
    end
  end

  defp forward(bridge), do: DSPyBridge.forward(bridge, "qa", %{question: "2+2?"})
  defp answer(bridge), do: bridge |> forward() |> elem(1) |> Map.fetch!("answer")
end
