# A BEAM that is going to be killed: starts a bridge, makes it busy, tells the daemon's pid, waits.
[python, busy, base_url] = System.argv()
{:ok, _} = Application.ensure_all_started(:dspy_bridge)

lm = %{
  provider: "openai",
  model: "stall",
  api_key: "sk-for-tests",
  base_url: base_url <> "/v1",
  max_retries: 0
}

state_dir = Path.join(System.tmp_dir!(), "dspy-bridge-mortal-#{System.pid()}")
{:ok, bridge} = DSPyBridge.start_link(python: python, state_dir: state_dir, configure: %{lm: lm})
:ok = DSPyBridge.await_ready(bridge)
DSPyBridge.create_module!(bridge, %{id: "qa", type: "predict", signature: "question -> answer"})

work =
  case busy do
    "idle" ->
      fn -> :ok end

    "lm" ->
      fn -> DSPyBridge.forward(bridge, "qa", %{question: "?"}) end

    "run" ->
      trainset = for n <- 1..10, do: %{question: "q#{n}", answer: "a"}
      args = %{module_id: "qa", optimizer: "COPRO", trainset: trainset, metric: "exact_match"}
      fn -> DSPyBridge.optimize(bridge, args) end

    "sandbox" ->
      source = "n = 0\nwhile question:\n    n += 1\nresult = {'answer': n}"
      spec = %{id: "loop", modules: [%{id: "qa", name: "qa"}], forward_fn: source}
      DSPyBridge.create_program!(bridge, spec)
      fn -> DSPyBridge.execute(bridge, "loop", %{question: "?"}, timeout: :infinity) end
  end

spawn(work)
IO.puts("pid #{DSPyBridge.info!(bridge)["server"]["pid"]}")
# Until it is killed, or the test that started it has ended.
IO.read(:stdio, :line)
System.halt(0)
