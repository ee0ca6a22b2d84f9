defmodule DSPyBridge.StreamTest do
  @moduledoc "Streams without Python: what a stream is to its consumer."

  use ExUnit.Case, async: true

  alias DSPyBridge.{Chunk, Error, FakeDaemon}

  @moduletag :capture_log

  setup do
    fake = start_supervised!(FakeDaemon)
    bridge = start_supervised!({DSPyBridge, fake: fake, backoff: {1, 1}})

    DSPyBridge.create_module!(bridge, %{
      id: "qa",
      type: "predict",
      signature: "question -> answer"
    })

    FakeDaemon.answer(fake, "qa", %{answer: "one two three"})
    %{fake: fake, bridge: bridge, tables: tables(bridge)}
  end

  # Says a word, and is then silent until it is told to go on.
  defp silent_after_one(fake) do
    test = self()

    FakeDaemon.answer(fake, "qa", fn _inputs, request ->
      FakeDaemon.chunk(request, "answer", "one ")
      send(test, {:speaking, self()})
      receive do: (:go_on -> {:ok, %{answer: "one two"}})
    end)
  end

  # The fake daemon ends what works for a request that is cancelled.
  defp assert_cancelled do
    assert_receive {:speaking, worker}, 5_000
    ref = Process.monitor(worker)
    assert_receive {:DOWN, ^ref, :process, _, _}, 5_000
  end

  test "gives chunks, then the whole result, once and last", %{bridge: bridge} do
    items = bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}) |> Enum.to_list()
    assert {:done, %{"answer" => whole}} = List.last(items)
    chunks = for {:chunk, %Chunk{field: "answer", text: text}} <- items, do: text
    assert length(chunks) > 1
    assert Enum.join(chunks) == whole
  end

  test "is lazy, and each run is a request of its own", %{bridge: bridge, fake: fake} do
    stream = DSPyBridge.stream_forward(bridge, "qa", %{question: "?"})
    assert FakeDaemon.calls(fake, "forward") == []
    assert Enum.to_list(stream) == Enum.to_list(stream)
    assert [%{envelope: %{"stream" => true}}, _] = FakeDaemon.calls(fake, "forward")
  end

  test "that is halted early cancels its request, and leaves nothing in the mailbox", context do
    %{bridge: bridge, fake: fake, tables: tables} = context
    silent_after_one(fake)

    assert [{:chunk, %Chunk{text: "one "}}] =
             bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}) |> Enum.take(1)

    assert_cancelled()
    assert :ets.info(tables.calls, :size) == 0
    assert Process.info(self(), :messages) == {:messages, []}
  end

  test "that fails gives the error last", %{bridge: bridge, fake: fake} do
    FakeDaemon.answer(fake, "qa", {:error, :lm_timeout})

    assert [{:error, %Error{code: :lm_timeout}}] =
             bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}) |> Enum.to_list()

    assert [{:error, %Error{code: :not_running}}] =
             :nobody |> DSPyBridge.stream_forward("qa", %{}) |> Enum.to_list()
  end

  test "that takes too long gives a timeout, and is cancelled", %{bridge: bridge, fake: fake} do
    silent_after_one(fake)
    stream = DSPyBridge.stream_forward(bridge, "qa", %{question: "?"}, timeout: 200)
    assert [{:chunk, _}, {:error, %Error{code: :timeout}}] = Enum.to_list(stream)
    assert_cancelled()
  end

  test "whose daemon dies gives worker_died", %{bridge: bridge, fake: fake} do
    silent_after_one(fake)
    test = self()

    consumer =
      spawn_link(fn ->
        items = bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}) |> Enum.to_list()
        send(test, {:items, items})
      end)

    assert_receive {:speaking, _}
    FakeDaemon.crash(fake)
    assert_receive {:items, [{:chunk, _}, {:error, %Error{code: :worker_died}}]}, 5_000
    refute Process.alive?(consumer)
  end

  describe "into a process" do
    test "each item is a message, under one reference", %{bridge: bridge} do
      assert {:ok, ref} = DSPyBridge.stream_forward(bridge, "qa", %{question: "?"}, into: self())
      assert_receive {DSPyBridge, ^ref, {:chunk, %Chunk{}}}, 5_000
      assert_receive {DSPyBridge, ^ref, {:done, %{"answer" => "one two three"}}}, 5_000
    end

    test "cancel ends it", %{bridge: bridge, fake: fake, tables: tables} do
      silent_after_one(fake)
      {:ok, ref} = DSPyBridge.stream_forward(bridge, "qa", %{question: "?"}, into: self())
      assert_receive {DSPyBridge, ^ref, {:chunk, _}}, 5_000
      assert :ok = DSPyBridge.cancel(bridge, ref)
      assert_receive {DSPyBridge, ^ref, {:error, %Error{code: :cancelled}}}, 5_000
      assert :ok = DSPyBridge.cancel(bridge, ref)
      assert_cancelled()
      assert :ets.info(tables.calls, :size) == 0
    end

    test "the death of the process ends it", %{bridge: bridge, fake: fake} do
      silent_after_one(fake)
      reader = spawn(fn -> Process.sleep(:infinity) end)
      {:ok, _ref} = DSPyBridge.stream_forward(bridge, "qa", %{question: "?"}, into: reader)
      assert_receive {:speaking, worker}, 5_000
      send(self(), {:speaking, worker})
      Process.exit(reader, :kill)
      assert_cancelled()
    end

    test "a bridge that is not there is an error" do
      assert {:error, %Error{code: :not_running}} =
               DSPyBridge.stream_forward(:nobody, "qa", %{}, into: self())
    end
  end

  test "events of a plain call go to its function, in the calling process", context do
    %{bridge: bridge, fake: fake} = context
    test = self()

    FakeDaemon.stub(fake, "optimize", fn _args, request ->
      for trial <- 1..3, do: FakeDaemon.event(request, "progress", %{trial: trial})
      {:ok, %{status: "completed"}}
    end)

    on_event = fn "progress", %{"trial" => trial} -> send(self(), {:trial, trial, self()}) end
    assert {:ok, _} = DSPyBridge.optimize(bridge, %{module_id: "qa"}, on_event: on_event)
    for trial <- 1..3, do: assert_received({:trial, ^trial, ^test})
  end

  defp tables(bridge) do
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
    tables
  end
end
