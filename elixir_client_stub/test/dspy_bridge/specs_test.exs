defmodule DSPyBridge.SpecsTest do
  @moduledoc "What the bridge keeps, and sends again."

  use ExUnit.Case, async: true

  alias DSPyBridge.{Error, FakeDaemon}

  @qa %{id: "qa", type: "predict", signature: "question -> answer"}

  setup do
    fake = start_supervised!(FakeDaemon)
    bridge = start_supervised!({DSPyBridge, fake: fake, backoff: {1, 1}})
    DSPyBridge.create_module!(bridge, @qa)
    %{fake: fake, bridge: bridge}
  end

  defp missing(kind, id) do
    details = %{"need" => "spec", "kind" => kind, "id" => id}
    {:error, Error.new(:not_found, "no #{kind} '#{id}'", details: details)}
  end

  # Answers the first call so, and the next ones well.
  defp once(fake, command, answer) do
    asked = :counters.new(1, [])

    FakeDaemon.stub(fake, command, fn _args ->
      :counters.add(asked, 1, 1)
      if :counters.get(asked, 1) == 1, do: answer, else: {:ok, %{answer: "4"}}
    end)
  end

  test "a spec that the daemon has lost is sent again, and the call repeated", context do
    %{fake: fake, bridge: bridge} = context
    once(fake, "forward", missing("module", "qa"))
    FakeDaemon.clear(fake)
    assert {:ok, %{"answer" => "4"}} = DSPyBridge.forward(bridge, "qa", %{question: "2+2?"})

    assert ["forward", "create_module", "forward"] =
             for(call <- FakeDaemon.calls(fake), do: call.command)
  end

  test "a spec that was never created is not found", %{fake: fake, bridge: bridge} do
    once(fake, "forward", missing("module", "other"))
    FakeDaemon.clear(fake)
    assert {:error, %Error{code: :not_found}} = DSPyBridge.forward(bridge, "other", %{})
    assert [%{command: "forward"}] = FakeDaemon.calls(fake)
  end

  test "ids that are numbers and those that are their text are the same", context do
    %{fake: fake, bridge: bridge} = context
    DSPyBridge.create_module!(bridge, %{@qa | id: 5})

    DSPyBridge.create_module!(
      bridge,
      Map.new(%{@qa | id: "5"}, fn {k, v} -> {to_string(k), v} end)
    )

    crash(fake, bridge)
    assert length(FakeDaemon.calls(fake, "create_module")) == 2
  end

  test "what is learned stands in the spec that is sent after a crash", context do
    %{fake: fake, bridge: bridge} = context
    DSPyBridge.create_program!(bridge, %{id: "p", modules: [%{@qa | id: "within"}, %{id: "qa"}]})

    learned = fn demo -> %{instructions: "Be brief.", demos: [%{question: demo}], config: %{}} end

    FakeDaemon.stub(fake, "optimize", %{
      status: "completed",
      optimized_program: %{id: "p", modules: %{qa: learned.("a"), within: learned.("b")}}
    })

    DSPyBridge.optimize!(bridge, %{program_id: "p", optimizer: "BootstrapFewShot"})
    crash(fake, bridge)

    assert [%{args: %{"state" => state}}] = FakeDaemon.calls(fake, "create_module")
    assert state == %{"instructions" => "Be brief.", "demos" => [%{"question" => "a"}]}

    assert [%{args: %{"modules" => [within, %{"id" => "qa"}]}}] =
             FakeDaemon.calls(fake, "create_program")

    assert within["state"]["demos"] == [%{"question" => "b"}]
  end

  test "what a run with keep: \"new\" learned is not kept", %{fake: fake, bridge: bridge} do
    modules = %{qa: %{instructions: "x", demos: []}}
    FakeDaemon.stub(fake, "optimize", %{optimized_program: %{id: "qa", modules: modules}})
    DSPyBridge.optimize!(bridge, %{module_id: "qa", keep: "new"})
    crash(fake, bridge)
    assert [%{args: args}] = FakeDaemon.calls(fake, "create_module")
    refute Map.has_key?(args, "state")
  end

  test "what a tenant configured is configured for the tenant again", context do
    %{fake: fake, bridge: bridge} = context
    DSPyBridge.configure!(bridge, %{lms: %{a: %{model: "x/1"}}}, tenant: "acme")
    DSPyBridge.configure!(bridge, %{lms: %{b: %{model: "x/2"}}, adapter: "json"}, tenant: "acme")
    crash(fake, bridge)

    assert [%{args: args, envelope: %{"tenant" => "acme"}}] = FakeDaemon.calls(fake, "configure")
    assert %{"adapter" => "json", "lms" => %{"a" => _, "b" => _}} = args
  end

  defp crash(fake, bridge) do
    FakeDaemon.clear(fake)
    FakeDaemon.crash(fake)
    DSPyBridge.ping!(bridge, %{}, retry: true)
  end
end
