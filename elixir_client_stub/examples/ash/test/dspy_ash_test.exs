defmodule DSPyAshTest do
  # The resources with a fake daemon: no Python, no database. Rows are in ETS tables of their own for
  # each tenant's test, so tests do not see each other.
  use ExUnit.Case, async: false

  alias DSPyAsh.{Core, LM}
  alias DSPyBridge.FakeDaemon

  setup do
    fake = start_supervised!(FakeDaemon)

    start_supervised!(
      {DSPyAsh.Bridge, fake: fake, metrics: %{"same" => &same/2}, forwards: %{}, backoff: {1, 10}}
    )

    tenant = "tenant-#{System.unique_integer([:positive])}"
    %{fake: fake, tenant: tenant, options: [tenant: tenant]}
  end

  def same(%{"answer" => wanted}, %{"answer" => got}), do: wanted == got

  defp signature(options) do
    Core.create_signature!(
      %{
        name: "qa",
        docstring: "Answer the question.",
        inputs: [%{"name" => "question", "type" => "string"}],
        outputs: [%{"name" => "answer", "type" => "string"}]
      },
      options
    )
  end

  defp module(options, more \\ %{}) do
    more
    |> Map.merge(%{name: "qa", type: :chain_of_thought, signature_id: signature(options).id})
    |> Core.create_module!(options)
  end

  defp program(options, modules) do
    refs = for module <- modules, do: %{"id" => module.id, "name" => module.name}
    Core.create_program!(%{name: "program", modules: refs}, options)
  end

  test "a signature without an output is refused", %{options: options} do
    assert {:error, %Ash.Error.Invalid{}} =
             Core.create_signature(%{name: "x", inputs: [%{"name" => "q"}], outputs: []}, options)
  end

  test "a module is checked by the daemon before it is kept", %{fake: fake, options: options} do
    FakeDaemon.stub(fake, "create_module", {:error, :invalid_args, "type: no such type"})
    signature = signature(options)

    assert {:error, %Ash.Error.Invalid{} = error} =
             Core.create_module(
               %{name: "m", type: :predict, signature_id: signature.id},
               options
             )

    assert Exception.message(error) =~ "invalid_args: type: no such type"
  end

  test "so is a change of it, and what was refused is not kept", context do
    %{fake: fake, options: options} = context
    module = module(options)
    FakeDaemon.stub(fake, "create_module", {:error, :invalid_args, "config.n: no such key"})

    assert {:error, %Ash.Error.Invalid{}} =
             Ash.update(module, %{config: %{"n" => 1}}, tenant: context.tenant)
  end

  test "forward sends the spec and the tenant, and gives the fields", context do
    %{fake: fake, options: options, tenant: tenant} = context
    module = module(options, %{state: %{"instructions" => "Be brief.", "demos" => []}})
    FakeDaemon.clear(fake)
    FakeDaemon.answer(fake, module.id, fn %{"question" => "2+2?"} -> %{answer: "4"} end)

    assert {:ok, %{"answer" => "4"}} = Core.forward(module.id, %{question: "2+2?"}, options)

    assert [%{command: "create_module", args: spec}, %{command: "forward", envelope: envelope}] =
             FakeDaemon.calls(fake)

    assert envelope["tenant"] == tenant
    assert spec["type"] == "chain_of_thought"
    assert spec["state"]["instructions"] == "Be brief."
    assert spec["signature"]["instructions"] == "Answer the question."
  end

  test "another tenant's module is not there", %{options: options} do
    module = module(options)
    assert {:error, error} = Core.forward(module.id, %{question: "?"}, tenant: "other")
    assert Exception.message(error) =~ "not found"
  end

  test "without a tenant nothing is done", %{options: options} do
    module = module(options)
    assert {:error, error} = Core.forward(module.id, %{question: "?"})
    assert Exception.message(error) =~ "require a tenant"
  end

  test "an error of the daemon keeps its code", %{fake: fake, options: options} do
    module = module(options)
    FakeDaemon.answer(fake, module.id, {:error, :lm_rate_limited, "slowly"})

    assert {:error, %{errors: [%DSPyAsh.Error{code: :lm_rate_limited, retriable: true}]}} =
             Core.forward(module.id, %{question: "?"}, options)
  end

  test "a program is executed, and its LM calls are kept as traces", context do
    %{fake: fake, options: options} = context
    module = module(options)
    program = program(options, [module])

    row = %{
      module_id: module.id,
      model: "openai/gpt-4o-mini",
      inputs: %{question: "?"},
      outputs: %{answer: "4"},
      prompt: [%{role: "user", content: "?"}],
      response: "4",
      error: nil,
      usage: %{calls: 1},
      cost: 0.001,
      latency_ms: 12.5,
      started_at: 1_795_719_404.56
    }

    FakeDaemon.answer(fake, program.id, %{answer: "4", _meta: %{trace: [row]}})
    arguments = %{keep_traces?: true, budget: %{lm_calls: 3}}

    assert {:ok, %{"answer" => "4"} = outputs} =
             Core.execute(program.id, %{question: "?"}, arguments, options)

    refute Map.has_key?(outputs, "_meta")
    assert [%{envelope: envelope}] = FakeDaemon.calls(fake, "execute")
    assert %{"trace" => true, "budget" => %{"lm_calls" => 3}} = envelope
    assert [trace] = Core.list_traces!(options)
    assert {trace.module_id, trace.program_id} == {module.id, program.id}
    assert trace.called_at.year == 2026
  end

  describe "an optimizer run" do
    setup %{options: options} do
      module = module(options)
      program = program(options, [module])

      optimizer =
        Core.create_optimizer!(
          %{name: "few shots", type: :bootstrap_fewshot, config: %{"max_labeled_demos" => 4}},
          options
        )

      start = %{
        optimizer_id: optimizer.id,
        program_id: program.id,
        trainset: [%{"question" => "2+2?", "answer" => "4"}],
        metric: "exact_match"
      }

      result = %{
        "status" => "completed",
        "score" => 0.75,
        "baseline_score" => 0.25,
        "optimized_program" => %{
          "id" => program.id,
          "modules" => %{
            module.id => %{
              "instructions" => "Answer in one word.",
              "demos" => [%{"question" => "1+1?", "answer" => "2"}],
              "config" => %{}
            }
          },
          "metrics" => %{"training_score" => 0.75}
        },
        "stats" => %{"lm_calls" => 14},
        "traces" => [],
        "warnings" => []
      }

      %{module: module, program: program, optimizer: optimizer, start: start, result: result}
    end

    test "teaches the rows, and they are what is sent next", context do
      %{fake: fake, options: options, module: module, program: program} = context

      FakeDaemon.stub(fake, "optimize", fn _args, request ->
        FakeDaemon.event(request, "progress", %{phase: "scoring", best_score: 0.5})
        context.result
      end)

      run = Core.start_run!(context.start, options)
      assert run.status == :pending
      assert run = Core.perform_run!(run, options)
      assert {run.status, run.score, run.baseline_score} == {:completed, 0.75, 0.25}
      assert Core.get_run!(run.id, options).progress["best_score"] == 0.5

      assert [%{args: args}] = FakeDaemon.calls(fake, "optimize")
      assert args["optimizer"] == "bootstrap_fewshot"
      assert args["run_id"] == run.id
      assert args["metric"] == %{"name" => "exact_match"}
      assert args["keep"] == "new"

      assert Core.get_module!(module.id, options).state["instructions"] == "Answer in one word."
      assert Core.get_program!(program.id, options).metrics["training_score"] == 0.75

      FakeDaemon.clear(fake)
      FakeDaemon.answer(fake, module.id, %{answer: "4"})
      Core.forward!(module.id, %{question: "?"}, options)
      assert [%{args: %{"state" => %{"demos" => [_]}}}] = FakeDaemon.calls(fake, "create_module")
    end

    test "that the daemon refuses is failed, with the reason", context do
      %{fake: fake, options: options} = context
      FakeDaemon.stub(fake, "optimize", {:error, :metric_error, "example 3: no answer"})

      run = context.start |> Core.start_run!(options) |> Core.perform_run!(options)

      assert {run.status, run.error_code, run.error} ==
               {:failed, "metric_error", "example 3: no answer"}
    end

    test "that may succeed later is an error, and goes on where it was", context do
      %{fake: fake, options: options} = context
      FakeDaemon.stub(fake, "optimize", {:error, :worker_died, "killed"})
      run = Core.start_run!(context.start, options)

      assert {:error, %{errors: [%DSPyAsh.Error{code: :worker_died}]}} =
               Core.perform_run(run, options)

      assert Core.get_run!(run.id, options).status == :running

      FakeDaemon.clear(fake)
      FakeDaemon.stub(fake, "optimize", fn _args -> context.result end)
      run = run.id |> Core.get_run!(options) |> Core.perform_run!(options)
      assert run.status == :completed
      assert [%{args: %{"resume" => resumed}}] = FakeDaemon.calls(fake, "optimize")
      assert resumed == run.id
    end

    test "that a job has given up is closed", context do
      run = Core.start_run!(context.start, context.options)
      error = DSPyAsh.Error.exception(code: :worker_died, text: "killed")
      run = Core.fail_run!(run, error, context.options)
      assert {run.status, run.error =~ "worker_died: killed"} == {:failed, true}
    end

    test "that the daemon has never heard of is begun", context do
      %{fake: fake, options: options} = context

      FakeDaemon.stub(fake, "optimize", fn
        %{"resume" => _} -> {:error, :not_found, "no such run"}
        %{"run_id" => _} -> context.result
      end)

      run = Core.start_run!(context.start, options)

      run =
        Ash.update!(run, %{status: :running, started_at: DateTime.utc_now()},
          action: :progress,
          tenant: context.tenant
        )

      assert Core.perform_run!(run, options).status == :completed
    end

    test "is stopped through the daemon, or at once when nobody performs it", context do
      %{fake: fake, options: options} = context
      run = Core.start_run!(context.start, options)
      assert Core.stop_run!(run, options).status == :cancelled
      assert FakeDaemon.calls(fake, "run_stop") == []

      FakeDaemon.stub(fake, "run_stop", %{status: "stopping"})
      run = Core.start_run!(context.start, options)
      run = Ash.update!(run, %{status: :running}, action: :progress, tenant: context.tenant)
      Core.stop_run!(run, options)
      assert [%{args: %{"run_id" => id}}] = FakeDaemon.calls(fake, "run_stop")
      assert id == run.id
    end

    test "is waited for by compile", context do
      %{fake: fake, options: options, start: start} = context
      FakeDaemon.stub(fake, "optimize", fn _args -> context.result end)

      assert {:ok, %{score: 0.75, status: :completed, program: program}} =
               Core.compile(
                 context.optimizer.id,
                 start.program_id,
                 start.trainset,
                 %{"host" => "same"},
                 options
               )

      assert program.compiled_state["metrics"] == %{"training_score" => 0.75}
    end
  end

  test "a program whose way is Elixir calls its modules", %{fake: fake, options: options} do
    corpus = fn query -> ["found for #{query}"] end
    program = DSPyAsh.SimplifiedBaleen.create!(corpus, options)
    [query, answer] = DSPyAsh.Core.Program.module_ids(program)
    FakeDaemon.answer(fake, query, [%{query: "one"}, %{query: "two"}])

    FakeDaemon.answer(fake, answer, fn %{"context" => context} ->
      %{answer: context, confidence: 1.0, reasoning: "so"}
    end)

    assert {:ok, %{"answer" => "\nfound for one\nfound for two", "confidence" => 1.0}} =
             Core.execute(program.id, %{question: "?"}, options)

    assert [%{args: spec} | _] =
             for(%{args: %{"id" => ^query}} = call <- FakeDaemon.calls(fake), do: call)

    assert [%{args: %{"signature" => "question -> answer, confidence: float"}} | _] =
             FakeDaemon.calls(fake, "create_program")

    assert spec["signature"]["instructions"] =~ "search query"
    assert [%{"name" => "question", "type" => "string"} | _] = spec["signature"]["inputs"]
  end

  test "evaluate gives the rows", %{fake: fake, options: options} do
    program = program(options, [module(options)])

    FakeDaemon.stub(fake, "evaluate", fn %{"devset" => rows} ->
      %{score: 1.0, total: length(rows)}
    end)

    assert {:ok, %{"total" => 1}} =
             Core.evaluate(
               program.id,
               [%{"question" => "?", "answer" => "4"}],
               "f1_score",
               options
             )
  end

  test "a signature's short form is read by DSPy", %{fake: fake, options: options} do
    FakeDaemon.stub(fake, "get", fn %{"kind" => "module"} ->
      %{signature: %{inputs: [%{name: "question"}], outputs: [%{name: "answer"}]}}
    end)

    assert {:ok, %{"inputs" => [%{"name" => "question"}]}} =
             Core.compile_signature("question -> answer", options)

    assert FakeDaemon.calls(fake, "delete") != []
  end

  describe "an LM" do
    test "is configured for the tenant with a key that no row has", context do
      %{fake: fake, options: options, tenant: tenant} = context
      System.put_env("DSPY_ASH_TEST_KEY", "sk-test")

      provider =
        LM.create_provider!(
          %{
            name: "main",
            type: :openai,
            model: "gpt-4o-mini",
            key_env: "DSPY_ASH_TEST_KEY",
            config: %{temperature: 0.0},
            is_default: true
          },
          options
        )

      refute inspect(provider) =~ "sk-test"
      assert {:ok, %{"status" => "configured"}} = LM.configure(provider.id, options)

      assert [%{args: args, envelope: %{"tenant" => ^tenant}}] =
               FakeDaemon.calls(fake, "configure")

      assert args["lm"] == %{
               "provider" => "openai",
               "model" => "gpt-4o-mini",
               "temperature" => 0.0,
               "api_key" => "sk-test"
             }

      assert Map.keys(args["lms"]) == ["main"]
    end

    test "is asked by its name", %{fake: fake, options: options} do
      FakeDaemon.stub(fake, "generate", fn %{"prompt" => prompt} -> %{text: prompt <> "!"} end)

      assert {:ok, %{"text" => "hi!"}} =
               LM.generate("hi", %{provider: "main", options: %{max_tokens: 5}}, options)

      assert [%{args: args, envelope: %{"lm" => "main"}}] = FakeDaemon.calls(fake, "generate")
      assert args["options"] == %{"max_tokens" => 5}
    end
  end
end
