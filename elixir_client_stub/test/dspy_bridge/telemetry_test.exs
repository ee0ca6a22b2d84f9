defmodule DSPyBridge.TelemetryTest do
  use ExUnit.Case, async: true

  alias DSPyBridge.{Error, FakeDaemon}

  @moduletag :capture_log

  setup %{test: test} do
    :telemetry.attach(self())
    fake = start_supervised!(FakeDaemon)
    bridge = start_supervised!({DSPyBridge, name: test, fake: fake, backoff: {1, 1}})

    DSPyBridge.create_module!(bridge, %{
      id: "qa",
      type: "predict",
      signature: "question -> answer"
    })

    %{fake: fake, bridge: bridge, name: test}
  end

  test "a call has a start and a stop, with what it used and without what was said", context do
    %{fake: fake, name: name} = context
    usage = %{"a/m" => %{calls: 2, input_tokens: 10, output_tokens: 3, cost: 0.5}}
    FakeDaemon.answer(fake, "qa", %{answer: "4", _meta: %{usage: usage}})
    DSPyBridge.forward!(name, "qa", %{question: "what is said"}, tenant: "acme")

    metadata = %{bridge: name, command: "forward", id: "qa", tenant: "acme"}
    assert_received {:telemetry, [:dspy_bridge, :call, :start], begun, ^metadata}
    assert %{system_time: _, monotonic_time: _} = begun
    stopped = Map.put(metadata, :result, :ok)
    assert_received {:telemetry, [:dspy_bridge, :call, :stop], measured, ^stopped}

    assert %{duration: duration, lm_calls: 2, input_tokens: 10, output_tokens: 3, cost: 0.5} =
             measured

    assert duration > 0
  end

  test "an error tells its code", %{fake: fake, name: name} do
    FakeDaemon.answer(fake, "qa", {:error, :lm_timeout})
    assert {:error, %Error{}} = DSPyBridge.forward(name, "qa", %{question: "?"})

    assert_received {:telemetry, [:dspy_bridge, :call, :stop], %{duration: _},
                     %{bridge: ^name, command: "forward", result: :lm_timeout}}
  end

  test "what raises in the caller is an exception", %{fake: fake, name: name} do
    FakeDaemon.stub(fake, "evaluate", fn _args, request ->
      FakeDaemon.event(request, "progress", %{})
      {:ok, %{score: 1.0}}
    end)

    assert_raise RuntimeError, fn ->
      DSPyBridge.evaluate(name, %{module_id: "qa"}, on_event: fn _, _ -> raise "mine" end)
    end

    assert_received {:telemetry, [:dspy_bridge, :call, :exception], %{duration: _},
                     %{bridge: ^name, kind: :error, reason: %RuntimeError{}}}
  end

  test "a callback has a start and a stop", %{fake: fake, name: name} do
    DSPyBridge.register(name, :tool, "add", fn %{"n" => n} -> n + 1 end)

    FakeDaemon.answer(fake, "qa", fn _inputs, request ->
      {:ok, 2} = FakeDaemon.call_host(request, "tool", "add", %{n: 1})
      {:error, _} = FakeDaemon.call_host(request, "tool", "none", %{n: 1})
      {:ok, %{answer: "2"}}
    end)

    DSPyBridge.forward!(name, "qa", %{question: "?"})

    for {tool, result} <- [{"add", :ok}, {"none", :error}] do
      assert_received {:telemetry, [:dspy_bridge, :host_call, :start], _,
                       %{bridge: ^name, target: "tool", name: ^tool}}

      assert_received {:telemetry, [:dspy_bridge, :host_call, :stop], %{duration: _},
                       %{bridge: ^name, target: "tool", name: ^tool, result: ^result}}
    end
  end

  test "the daemon comes up, and goes down", %{fake: fake, name: name} do
    assert_received {:telemetry, [:dspy_bridge, :daemon, :up], %{duration: _},
                     %{bridge: ^name, restored: 0}}

    FakeDaemon.crash(fake)

    assert_receive {:telemetry, [:dspy_bridge, :daemon, :down], %{count: 1},
                    %{bridge: ^name, reason: reason}},
                   5_000

    assert reason =~ "137"

    assert_receive {:telemetry, [:dspy_bridge, :daemon, :up], _,
                    %{bridge: ^name, restored: 1, refused: 0}},
                   5_000
  end
end
