defmodule DSPyBridge.CallbacksTest do
  @moduledoc "Tools, metrics, rewards, retrievers, LMs and forwards in Elixir, under the real daemon."

  use DSPyBridge.Test.Daemon, async: true

  import ExUnit.CaptureLog

  alias DSPyBridge.Context

  setup_all %{bridge: bridge} do
    DSPyBridge.register(bridge, :lm, "ok", fn _messages, _request ->
      says(reasoning: "so", answer: "ok")
    end)

    DSPyBridge.configure!(bridge, %{lm: %{provider: "host", model: "ok"}})
    qa(bridge)
    :ok = DSPyBridge.await_ready(bridge)
    :ok
  end

  # For `{module, function, args}`.
  def score(_example, _prediction, more), do: more
  def score_in(_example, _prediction, %Context{target: "metric"}, more), do: more
  def exact(%{"answer" => wanted}, %{"answer" => got}), do: wanted == got

  describe "metrics" do
    setup %{bridge: bridge} do
      devset = for n <- 0..3, do: %{question: "q#{n}", answer: if(n == 0, do: "ok", else: "no")}

      evaluate = fn metric ->
        DSPyBridge.evaluate(bridge, %{module_id: "qa", devset: devset, metric: metric})
      end

      %{evaluate: evaluate, devset: devset}
    end

    test "see the example, the prediction and the context, as maps with string keys", context do
      test = self()

      metric = fn example, prediction, context ->
        send(test, {example, prediction, context})
        1
      end

      assert {:ok, %{"score" => 1.0}} = context.evaluate.(metric)

      assert_receive {%{"question" => "q0", "answer" => "ok"}, %{"answer" => "ok"},
                      %Context{target: "metric", args: %{"index" => 0}}}
    end

    test "give a number, a boolean, or a score with feedback", context do
      assert {:ok, %{"score" => 0.25}} = context.evaluate.(&__MODULE__.exact/2)
      assert {:ok, %{"score" => 0.5}} = context.evaluate.(fn _, _ -> 0.5 end)

      assert {:ok, %{"score" => 0.5}} =
               context.evaluate.(fn _, _ -> %{score: 0.5, feedback: "so"} end)

      assert {:ok, %{"score" => 0.5}} = context.evaluate.(fn _, _ -> {:ok, 0.5} end)
    end

    test "may be a module, a function and more arguments, with and without the context",
         context do
      assert {:ok, %{"score" => 0.75}} = context.evaluate.({__MODULE__, :score, [0.75]})
      assert {:ok, %{"score" => 0.75}} = context.evaluate.({__MODULE__, :score_in, [0.75]})
    end

    test "that raise, or give nonsense, are metric_error with the example's index", context do
      raises = fn %{"question" => question}, _ ->
        if question == "q2", do: raise("no gold"), else: 1
      end

      log =
        capture_log(fn ->
          assert {:error, %Error{code: :metric_error, details: %{"index" => 2}} = error} =
                   context.evaluate.(raises)

          assert error.message =~ "no gold"
          refute error.message =~ "callbacks_test.exs"
        end)

      # The stacktrace is for the log.
      assert log =~ "callbacks_test.exs"

      for nonsense <- ["good", nil, %{feedback: "?"}, [1]] do
        assert {:error, %Error{code: :metric_error}} = context.evaluate.(fn _, _ -> nonsense end)
      end
    end

    test "that cannot be sent, or were killed, are metric_error", context do
      assert {:error, %Error{code: :metric_error}} = context.evaluate.(fn _, _ -> self() end)

      assert {:error, %Error{code: :metric_error, message: message}} =
               context.evaluate.(fn _, _ -> Process.exit(self(), :kill) end)

      assert message =~ "killed"
    end

    test "that were never registered name the nearest that is", %{bridge: bridge} = context do
      DSPyBridge.register(bridge, :metric, "f1_words", fn _, _ -> 1 end)
      assert {:error, %Error{message: message}} = context.evaluate.(%{host: "f1_word"})
      assert message =~ ~s(did you mean "f1_words"?)
    end

    test "in place leave nothing behind", %{bridge: bridge} = context do
      {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
      closure = fn _, _ -> length(context.devset) end
      assert {:ok, _} = context.evaluate.(closure)

      assert [] =
               for({{:metric, "fn-" <> _}, _} = row <- :ets.tab2list(tables.callbacks), do: row)
    end

    test "serve an optimizer, from its own process", %{bridge: bridge} do
      reasoning(bridge, "student")
      trainset = for n <- 1..6, do: %{question: "q#{n}", answer: "ok"}

      assert {:ok, %{"status" => "completed", "module_demos" => %{"student" => demos}}} =
               DSPyBridge.optimize(bridge, %{
                 module_id: "student",
                 optimizer: "BootstrapFewShot",
                 trainset: trainset,
                 metric: fn %{"answer" => wanted}, %{"answer" => got}, _context ->
                   wanted == got
                 end,
                 config: %{max_bootstrapped_demos: 2, max_labeled_demos: 2}
               })

      assert Enum.any?(demos, &(&1["reasoning"] == "so"))
    end

    test "8 threads make a thousand calls each and none is lost", %{bridge: bridge} do
      calls = :counters.new(1, [:atomics])

      DSPyBridge.register(bridge, :metric, "counted", fn _, _ ->
        :counters.add(calls, 1, 1)
        1
      end)

      DSPyBridge.create_module!(bridge, %{
        id: "bench",
        type: "retrieve",
        config: %{passages: ["Nile"], k: 1}
      })

      DSPyBridge.put_dataset!(bridge, "many", for(n <- 1..8_000, do: %{query: "Nile", id: n}))

      assert {:ok, %{"score" => 1.0, "total" => 8_000, "errors" => 0}} =
               DSPyBridge.evaluate(bridge, %{
                 module_id: "bench",
                 devset: "many",
                 metric: %{host: "counted"},
                 max_concurrency: 8
               })

      assert :counters.get(calls, 1) == 8_000
    end
  end

  describe "tools" do
    test "are called by ReAct with the arguments as they are, and the LM sees what they give",
         context do
      %{bridge: bridge} = context
      test = self()

      lm = fn messages, _request ->
        case observations(messages) do
          0 ->
            says(
              next_thought: "look",
              next_tool_name: "find",
              next_tool_args: ~s({"words": ["a", "b"], "limit": 2, "deep": {"x": null}})
            )

          1 ->
            send(test, {:seen, messages})
            says(next_thought: "done", next_tool_name: "finish", next_tool_args: "{}")
        end
      end

      find = fn args, %Context{name: "find"} ->
        send(test, {:args, args})
        %{found: ["Paris", 1.5, nil]}
      end

      DSPyBridge.register(bridge, :lm, "thinks", finishing(lm))

      DSPyBridge.create_module!(bridge, %{
        id: "agent",
        type: "react",
        signature: "question -> answer",
        lm: %{provider: "host", model: "thinks"},
        tools: [
          %{
            name: "find",
            description: "Finds things.",
            parameters: %{
              type: "object",
              properties: %{
                words: %{type: "array", items: %{type: "string"}},
                limit: %{type: "integer"},
                deep: %{type: "object"}
              }
            },
            run: find
          }
        ]
      })

      assert {:ok, %{"answer" => "Paris", "_meta" => %{"usage" => usage}}} =
               DSPyBridge.forward(bridge, "agent", %{question: "where?"})

      assert_received {:args, %{"words" => ["a", "b"], "limit" => 2, "deep" => %{"x" => nil}}}
      assert_received {:seen, messages}
      assert inspect(messages) =~ "Paris"
      # Three questions to the LM, and what it said that they cost.
      assert %{"host/thinks" => %{"calls" => 3, "input_tokens" => 30}} = usage
    end

    test "that fail tell the LM why, without a stacktrace", %{bridge: bridge} do
      test = self()

      lm = fn messages, _request ->
        case observations(messages) do
          0 ->
            says(next_thought: "try", next_tool_name: "broken", next_tool_args: "{}")

          1 ->
            send(test, {:seen, inspect(messages, limit: :infinity, printable_limit: :infinity)})
            says(next_thought: "done", next_tool_name: "finish", next_tool_args: "{}")
        end
      end

      DSPyBridge.register(bridge, :lm, "tries", finishing(lm))
      DSPyBridge.register(bridge, :tool, "broken", fn _ -> raise "the index is down" end)

      DSPyBridge.create_module!(bridge, %{
        id: "unlucky",
        type: "react",
        signature: "question -> answer",
        lm: %{provider: "host", model: "tries"},
        tools: [
          %{name: "broken", description: "Fails.", parameters: %{type: "object", properties: %{}}}
        ]
      })

      assert {:ok, %{"answer" => "Paris"}} =
               DSPyBridge.forward(bridge, "unlucky", %{question: "?"})

      assert_received {:seen, messages}
      assert messages =~ "the index is down"
      refute messages =~ ".exs"
    end
  end

  describe "LMs" do
    test "get messages and options, and their usage is counted", %{bridge: bridge} do
      test = self()

      lm = fn messages, request ->
        send(test, {messages, request})
        %{text: "Paris", usage: %{input_tokens: 7, output_tokens: 2}, finish_reason: "stop"}
      end

      spec = %{provider: "host", model: "told", run: lm}
      DSPyBridge.configure!(bridge, %{lms: %{told: spec}})

      assert {:ok, %{"text" => "Paris", "usage" => usage}} =
               DSPyBridge.generate(bridge, "Where?", lm: "told", options: %{temperature: 0.25})

      assert_received {[%{"role" => "user", "content" => "Where?"}],
                       %{"config" => %{"temperature" => 0.25}}}

      assert %{"input_tokens" => 7, "output_tokens" => 2} = usage
    end

    test "that say they are rate limited are asked again; other errors keep their code",
         context do
      %{bridge: bridge} = context
      asked = :counters.new(1, [])

      DSPyBridge.register(bridge, :lm, "limited", fn _messages, _request ->
        :counters.add(asked, 1, 1)

        if :counters.get(asked, 1) < 3,
          do: {:error, Error.new(:lm_rate_limited, "slowly", retry_after_ms: 10)},
          else: "at last"
      end)

      lm = %{provider: "host", model: "limited", max_retries: 3, retry_delay_ms: 1}
      assert {:ok, %{"text" => "at last"}} = DSPyBridge.generate(bridge, "?", lm: lm)

      DSPyBridge.register(bridge, :lm, "wrong", fn _, _ ->
        {:error, Error.new(:lm_auth, "no key")}
      end)

      lm = %{provider: "host", model: "wrong"}
      assert {:error, %Error{code: :lm_auth}} = DSPyBridge.generate(bridge, "?", lm: lm)
    end

    test "are killed when nobody wants the answer any more", %{bridge: bridge} do
      test = self()

      DSPyBridge.register(bridge, :lm, "silent", fn _, _ ->
        send(test, {:asked, self()})
        Process.sleep(:infinity)
      end)

      lm = %{provider: "host", model: "silent"}
      caller = spawn(fn -> DSPyBridge.generate(bridge, "?", lm: lm) end)
      assert_receive {:asked, task}, 20_000
      ref = Process.monitor(task)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^ref, :process, ^task, :killed}, 20_000

      assert {:error, %Error{code: code}} =
               DSPyBridge.generate(bridge, "?", lm: lm, deadline_ms: 300)

      assert code in [:deadline_exceeded, :host_error]
      assert_receive {:asked, task}, 20_000
      ref = Process.monitor(task)
      assert_receive {:DOWN, ^ref, :process, ^task, _}, 20_000
    end
  end

  describe "the task that stands by for the next call" do
    setup %{bridge: bridge} do
      create_here(bridge)
      assert {:ok, _} = DSPyBridge.forward(bridge, "here", %{query: "first"})
      {:ok, found} = DSPyBridge.Bridge.resolve(bridge)
      owner = GenServer.whereis(DSPyBridge.Bridge.part(found, :owner))
      %{spare: fn -> :sys.get_state(owner).traffic.host_calls.spare end}
    end

    test "serves it, and another one stands by", %{bridge: bridge, spare: spare} do
      {task, _monitor} = spare.()
      assert {:ok, %{"passages" => [served]}} = DSPyBridge.forward(bridge, "here", %{query: "x"})
      assert served == inspect(task)
      assert {next, _monitor} = spare.()
      assert next != task
    end

    test "is replaced when somebody kills it", %{bridge: bridge, spare: spare} do
      {task, _monitor} = spare.()
      Process.exit(task, :kill)
      assert Enum.any?(1..4_000, fn _ -> spare.() == nil || (Process.sleep(5) && false) end)
      assert {:ok, %{"passages" => [_]}} = DSPyBridge.forward(bridge, "here", %{query: "x"})
      assert {_next, _monitor} = spare.()
    end

    defp create_here(bridge) do
      host = %{host: fn _query, _k -> [inspect(self())] end, k: 1}
      DSPyBridge.create_module!(bridge, %{id: "here", type: "retrieve", config: host})
    end
  end

  describe "retrievers and rewards" do
    test "a retriever gives texts, or maps with a text", %{bridge: bridge} do
      DSPyBridge.create_module!(bridge, %{
        id: "find",
        type: "retrieve",
        config: %{host: fn query, k -> for(n <- 1..k, do: "#{query} #{n}") end, k: 2}
      })

      assert {:ok, %{"passages" => ["Nile 1", "Nile 2"]}} =
               DSPyBridge.forward(bridge, "find", %{query: "Nile"})

      DSPyBridge.register(bridge, :retriever, "find", fn _, _, %Context{} ->
        [%{text: "x", id: 7}]
      end)

      assert {:ok, %{"passages" => ["x"]}} = DSPyBridge.forward(bridge, "find", %{query: "Nile"})
    end

    test "a reward chooses the best attempt", %{bridge: bridge} do
      said = :counters.new(1, [])

      DSPyBridge.register(bridge, :lm, "counts", fn _, _ ->
        :counters.add(said, 1, 1)
        says(answer: "#{:counters.get(said, 1)}")
      end)

      DSPyBridge.create_module!(bridge, %{
        id: "best",
        type: "best_of_n",
        signature: "question -> answer",
        lm: %{provider: "host", model: "counts"},
        config: %{
          n: 3,
          threshold: 100,
          reward: fn %{"question" => "?"}, %{"answer" => answer} ->
            -abs(String.to_integer(answer) - 2)
          end
        }
      })

      assert {:ok, %{"answer" => "2"}} = DSPyBridge.forward(bridge, "best", %{question: "?"})
    end
  end

  describe "forwards" do
    test "call modules inside their request: tenant, trace and usage are its own", context do
      %{bridge: bridge} = context
      test = self()

      DSPyBridge.create_program!(bridge, %{
        id: "driven",
        modules: [%{id: "qa", name: "qa"}],
        signature: "question -> answer",
        forward: fn %{"question" => question}, context ->
          send(test, {:callers, Process.get(:"$callers")})
          one = DSPyBridge.forward!(context, "qa", %{question: question})
          two = DSPyBridge.forward!(context, "qa", %{question: one["answer"]})
          %{answer: two["answer"] <> "!"}
        end
      })

      assert {:ok, %{"answer" => "ok!", "_meta" => meta}} =
               DSPyBridge.execute(bridge, "driven", %{question: "?"}, trace: true)

      assert %{"host/ok" => %{"calls" => 2}} = meta["usage"]
      assert length(meta["trace"]) == 2
      assert_received {:callers, [^test | _]}
    end

    test "are nested three levels deep", %{bridge: bridge} do
      for level <- 3..1//-1 do
        forward =
          if level == 3 do
            fn inputs, context ->
              Map.take(DSPyBridge.forward!(context, "qa", inputs), ["answer"])
            end
          else
            fn inputs, context ->
              %{"answer" => answer} = DSPyBridge.execute!(context, "level-#{level + 1}", inputs)
              %{answer: answer <> "#{level}"}
            end
          end

        DSPyBridge.create_program!(bridge, %{
          id: "level-#{level}",
          modules: [%{id: "qa", name: "qa"}],
          signature: "question -> answer",
          forward: forward
        })
      end

      assert {:ok, %{"answer" => "ok21"}} =
               DSPyBridge.execute(bridge, "level-1", %{question: "?"})
    end

    test "what fails within them keeps its code", %{bridge: bridge} do
      DSPyBridge.create_program!(bridge, %{
        id: "failing",
        modules: [%{id: "qa", name: "qa"}],
        signature: "question -> answer",
        forward: fn _inputs, context -> DSPyBridge.forward!(context, "no-such-module", %{}) end
      })

      assert {:error, %Error{code: :not_found}} =
               DSPyBridge.execute(bridge, "failing", %{question: "?"})
    end

    test "are optimized: demonstrations are found for the module that they call", %{
      bridge: bridge
    } do
      reasoning(bridge, "inner")

      DSPyBridge.create_program!(bridge, %{
        id: "taught",
        modules: [%{id: "inner", name: "inner"}],
        signature: "question -> answer",
        forward: fn inputs, context ->
          Map.take(DSPyBridge.forward!(context, "inner", inputs), ["answer"])
        end
      })

      for {optimizer, config} <- [
            {"BootstrapFewShot", %{max_bootstrapped_demos: 2}},
            {"MIPROv2", %{auto: nil, num_candidates: 2, num_trials: 2, minibatch: false}}
          ] do
        assert {:ok, %{"status" => "completed", "module_demos" => %{"inner" => demos}}} =
                 DSPyBridge.optimize(
                   bridge,
                   %{
                     program_id: "taught",
                     optimizer: optimizer,
                     trainset: for(n <- 1..6, do: %{question: "q#{n}", answer: "ok"}),
                     metric: fn %{"answer" => _}, %{"answer" => got} -> is_binary(got) end,
                     config: config
                   },
                   lm: %{provider: "embedded", model: "echo"}
                 )

        assert is_list(demos)

        if optimizer == "BootstrapFewShot", do: assert(Enum.any?(demos, & &1["reasoning"]))
      end
    end
  end

  test "callbacks survive a crash of the daemon" do
    bridge =
      start_supervised!(
        {DSPyBridge,
         options(
           configure: %{lm: %{provider: "host", model: "mine"}},
           lms: %{"mine" => fn _, _ -> says(answer: "mine") end}
         )},
        id: :callbacks_crash
      )

    qa(bridge)
    assert {:ok, %{"answer" => "mine"}} = DSPyBridge.forward(bridge, "qa", %{question: "?"})
    kill_daemon(bridge)

    assert {:ok, %{"answer" => "mine"}} =
             DSPyBridge.forward(bridge, "qa", %{question: "?"}, retry: true)
  end

  # Its bootstrapped demonstrations have a reasoning, which labels lack.
  defp reasoning(bridge, id) do
    spec = %{id: id, type: "chain_of_thought", signature: "question -> answer"}
    DSPyBridge.create_module!(bridge, spec)
  end

  # A reply as the chat adapter reads it.
  defp says(fields) do
    body = for {name, text} <- fields, do: "[[ ## #{name} ## ]]\n#{text}\n\n"

    %{
      text: Enum.join(body) <> "[[ ## completed ## ]]",
      usage: %{input_tokens: 10, output_tokens: 5}
    }
  end

  defp observations(messages) do
    if List.last(messages)["content"] =~ "observation_0", do: 1, else: 0
  end

  # ReAct's last question is for the signature's own fields.
  defp finishing(think) do
    fn messages, request ->
      if List.last(messages)["content"] =~ "next_tool_name",
        do: think.(messages, request),
        else: says(reasoning: "so", answer: "Paris")
    end
  end
end
