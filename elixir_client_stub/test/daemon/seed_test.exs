defmodule DSPyBridge.SeedTest do
  @moduledoc "The client of the founding document, unmodified, on version 1 of the protocol."

  use ExUnit.Case, async: true

  alias DSPyBridge.Test.SeedBridge

  @moduletag :daemon

  # `serialize_program`, `serialize_module` and `serialize_signature` of the document.
  @program %{
    id: "prog-1",
    modules: [
      %{
        id: "mod-1",
        type: :chain_of_thought,
        signature: %{
          inputs: [
            %{name: :question, type: :string, description: nil, optional: false, default: nil}
          ],
          outputs: [
            %{name: :answer, type: :string, description: nil, optional: false, default: nil}
          ]
        },
        state: %{demos: [], temperature: 0.0}
      }
    ],
    forward_fn: nil
  }
  @trainset for n <- 1..4, do: %{question: "What is #{n}?", answer: "#{n}", gold_passages: []}

  setup_all do
    start_supervised!(SeedBridge)
    lm = %{provider: "embedded", model: "lexical", temperature: 0.0, max_tokens: 1000}
    assert {:ok, %{status: "configured"}} = SeedBridge.call(:configure, %{lm: lm}, 60_000)
    :ok
  end

  test "its commands work: create_module, forward, create_program, execute" do
    module = hd(@program.modules)
    assert {:ok, %{id: "mod-1"}} = SeedBridge.call(:create_module, module)
    inputs = %{question: "What is 1?"}

    assert {:ok, %{answer: answer, reasoning: reasoning}} =
             SeedBridge.call(:forward, %{module_id: "mod-1", inputs: inputs}, 60_000)

    assert is_binary(answer) and is_binary(reasoning)
    program = %{@program | modules: [%{id: "mod-1", name: "mod"}]}
    assert {:ok, %{id: "prog-1"}} = SeedBridge.call(:create_program, program)

    assert {:ok, %{answer: _}} =
             SeedBridge.call(:execute, %{program_id: "prog-1", inputs: inputs}, 60_000)
  end

  test "its optimizers compile, and give what it reads of them" do
    for {optimizer, config} <- [
          {"BootstrapFewShot",
           %{max_bootstrapped_demos: 4, max_labeled_demos: 16, max_rounds: 1, max_errors: 5}},
          {"MIPRO", %{num_candidates: 2, init_temperature: 1.0}}
        ] do
      args = %{
        optimizer: optimizer,
        program: @program,
        trainset: @trainset,
        metric: "exact_match",
        config: config
      }

      assert {:ok, result} = SeedBridge.call(:optimize, args, 170_000)
      assert is_number(result.score)
      assert is_number(result.optimized_program.metrics.training_score)
      assert %{"mod-1": _} = result.module_instructions
      assert is_list(result.module_demos[:"mod-1"])
      assert is_map(result.stats)
    end
  end

  test "a failure is a string, and nothing but answers is ever sent" do
    assert {:error, "not_found: " <> _} =
             SeedBridge.call(:forward, %{module_id: "x", inputs: %{}})

    assert {:error, "unknown_command: " <> _} = SeedBridge.call(:fly, %{})
    # What matched none of its clauses would have ended it.
    assert {:ok, _} = SeedBridge.call(:ping, %{})
  end
end
