# What a host call costs, against the floor in the same run: a frame to `cat` and back.
#
#     MIX_ENV=prod mix run bench/host_calls.exs
#
# A row of `batch` whose module retrieves on the host makes one host call; one whose module has its
# passages makes none. Their difference is a host call: the daemon's thread asks, the port's owner
# starts a task, the task answers, the thread goes on. Rounds alternate, and the quietest of each
# kind counts, because whatever disturbs a round makes it longer.

rows = 400
rounds = String.to_integer(System.get_env("ROUNDS", "15"))
python = System.get_env("DSPY_BRIDGE_PYTHON", "../.venv/bin/python")

{:ok, bridge} =
  DSPyBridge.start_link(python: python, configure: %{lm: %{provider: "embedded", model: "echo"}})

:ok = DSPyBridge.await_ready(bridge)
passages = %{passages: ["The Nile flows through Cairo."], k: 1}
DSPyBridge.create_module!(bridge, %{id: "here", type: "retrieve", config: passages})
host = %{host: fn _query, _k -> ["The Nile flows through Cairo."] end, k: 1}
DSPyBridge.create_module!(bridge, %{id: "host", type: "retrieve", config: host})

inputs = for n <- 1..rows, do: %{query: "river #{n}"}
cat = Port.open({:spawn_executable, System.find_executable("cat")}, [:binary, packet: 4])
frame = :binary.copy("x", 260)

batch = fn id ->
  {taken, %{"rows" => got}} =
    :timer.tc(fn -> DSPyBridge.batch!(bridge, {:module, id}, inputs, max_concurrency: 1) end)

  true = Enum.all?(got, &(&1["error"] == nil))
  taken / rows
end

floor = fn ->
  {taken, _} =
    :timer.tc(fn ->
      for _ <- 1..rows do
        Port.command(cat, frame)
        receive do: ({^cat, {:data, _}} -> :ok)
      end
    end)

  taken / rows
end

ping = fn ->
  {taken, _} = :timer.tc(fn -> for _ <- 1..rows, do: DSPyBridge.ping!(bridge) end)
  taken / rows
end

for run <- [fn -> batch.("here") end, fn -> batch.("host") end, floor, ping], do: run.()

measured =
  for _ <- 1..rounds do
    %{floor: floor.(), ping: ping.(), here: batch.("here"), host: batch.("host")}
  end

least = fn key -> measured |> Enum.map(& &1[key]) |> Enum.min() end
host_call = least.(:host) - least.(:here)
shown = fn number -> :erlang.float_to_binary(number / 1, decimals: 1) end

IO.puts("floor      #{shown.(least.(:floor))} us a round trip")

IO.puts(
  "ping       #{shown.(least.(:ping))} us, #{shown.(least.(:ping) / least.(:floor))} x floor"
)

IO.puts("host call  #{shown.(host_call)} us, #{shown.(host_call / least.(:floor))} x floor")
