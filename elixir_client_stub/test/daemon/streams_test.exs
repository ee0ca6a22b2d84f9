defmodule DSPyBridge.StreamsTest do
  @moduledoc "Streams under the real daemon and a real LM server, which speaks piece by piece."

  use DSPyBridge.Test.Daemon, async: true

  @moduletag streaming: true

  alias DSPyBridge.Chunk
  alias DSPyBridge.Test.LMServer

  setup_all %{bridge: bridge} do
    server = start_supervised!(LMServer)

    DSPyBridge.configure!(bridge, %{
      lms: %{
        speaks: LMServer.lm(server, "speaks+words-20+gap-2"),
        slowly: LMServer.lm(server, "slowly+words-200+gap-50")
      }
    })

    DSPyBridge.create_module!(bridge, %{
      id: "qa",
      type: "chain_of_thought",
      signature: "question -> answer"
    })

    DSPyBridge.create_program!(bridge, %{id: "p", modules: [%{id: "qa", name: "qa"}]})
    :ok = DSPyBridge.await_ready(bridge)
    %{server: server}
  end

  test "the pieces of each field are the field", %{bridge: bridge} do
    items =
      bridge
      |> DSPyBridge.stream_forward("qa", %{question: "why?"}, lm: "speaks")
      |> Enum.to_list()

    assert {:done, result} = List.last(items)
    fields = fields(items)
    assert Map.keys(fields) == ["answer", "reasoning"]
    for {field, text} <- fields, do: assert(text == result[field])
    assert Enum.all?(items, &match?({kind, _} when kind in [:chunk, :status, :done], &1))
    assert {:chunk, %Chunk{module_id: "qa"}} = List.keyfind(items, :chunk, 0)
  end

  test "programs and prompts are streamed, too", %{bridge: bridge} do
    items =
      bridge
      |> DSPyBridge.stream_execute("p", %{question: "why?"}, lm: "speaks")
      |> Enum.to_list()

    assert {:done, %{"answer" => answer}} = List.last(items)
    assert fields(items)["answer"] == answer

    items = bridge |> DSPyBridge.stream_generate("Say much", lm: "speaks") |> Enum.to_list()
    assert {:done, %{"text" => text}} = List.last(items)
    assert fields(items)["text"] == text
  end

  test "50 streams at once: half are cancelled in the middle, the others are whole", context do
    %{bridge: bridge, server: server} = context
    before = LMServer.stats(server)["closed_early"]

    tasks =
      for n <- 1..50 do
        Task.async(fn ->
          stream = &DSPyBridge.stream_forward(bridge, "qa", %{question: "number #{n}"}, lm: &1)

          if rem(n, 2) == 0,
            do: {:halted, "slowly" |> stream.() |> Enum.find(&match?({:chunk, _}, &1))},
            else: {:whole, "speaks" |> stream.() |> Enum.to_list()}
        end)
      end

    for answer <- Task.await_many(tasks, 120_000) do
      case answer do
        {:halted, item} ->
          assert {:chunk, %Chunk{}} = item

        {:whole, items} ->
          assert {:done, result} = List.last(items)
          for {field, text} <- fields(items), do: assert(text == result[field])
      end
    end

    # The server saw those connections close, and nothing is left here.
    eventually(fn -> LMServer.stats(server)["closed_early"] - before == 25 end)
    eventually(fn -> in_flight(bridge) == 0 end)
  end

  test "into a process, and cancelled", %{bridge: bridge, server: server} do
    before = LMServer.stats(server)["closed_early"]

    {:ok, ref} =
      DSPyBridge.stream_forward(bridge, "qa", %{question: "?"}, lm: "slowly", into: self())

    assert_receive {DSPyBridge, ^ref, {:chunk, %Chunk{}}}, 30_000
    :ok = DSPyBridge.cancel(bridge, ref)
    assert_receive {DSPyBridge, ^ref, {:error, %Error{code: :cancelled}}}, 30_000
    eventually(fn -> LMServer.stats(server)["closed_early"] > before end)
  end

  test "an LM of ours speaks piece by piece", %{bridge: bridge} do
    pieces = [
      "[[ ## reasoning ## ]]\nso\n\n",
      "[[ ## answer ## ]]\none ",
      "two ",
      "three",
      "\n\n[[ ## completed ## ]]"
    ]

    DSPyBridge.register(bridge, :lm, "ours", fn _messages, %{"stream" => true}, context ->
      for piece <- pieces, do: :ok = DSPyBridge.lm_chunk(context, piece)
      Enum.join(pieces)
    end)

    lm = %{provider: "host", model: "ours"}
    items = bridge |> DSPyBridge.stream_forward("qa", %{question: "?"}, lm: lm) |> Enum.to_list()
    assert {:done, %{"answer" => "one two three"}} = List.last(items)
    assert fields(items)["answer"] == "one two three"
    assert length(for({:chunk, %Chunk{field: "answer"}} = item <- items, do: item)) >= 2
  end

  # A piece with the index 0 begins its field anew.
  defp fields(items) do
    for {:chunk, %Chunk{} = chunk} <- items, reduce: %{} do
      fields when chunk.index == 0 -> Map.put(fields, chunk.field, chunk.text)
      fields -> Map.update!(fields, chunk.field, &(&1 <> chunk.text))
    end
  end
end
