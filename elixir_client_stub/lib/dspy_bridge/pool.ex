defmodule DSPyBridge.Pool do
  @moduledoc """
  Several daemons behind one name.

  One daemon runs a thousand requests at once, as they wait for their LMs; but it is one Python
  process, and has one core. More daemons are for work that computes: large prompts, many short
  calls, several optimizer runs.

      children = [
        {DSPyBridge.Pool, name: MyApp.DSPy, size: 4, python: "...", configure: &MyApp.lms/0}
      ]

      DSPyBridge.create_module(MyApp.DSPy, %{id: "triage", ...})
      DSPyBridge.forward(MyApp.DSPy, "triage", %{message: text})
      DSPyBridge.forward(MyApp.DSPy, "triage", %{message: text}, key: conversation_id)

  Every function of `DSPyBridge` takes the pool's name. What changes a registry (`configure`,
  `create_module`, `create_program`, `put_dataset`, `import_specs`, `delete`) and `shutdown` goes to
  all members, one after the other; the first error is the answer. Every other call goes to one:
  the same `:key` to the same member, and those without a key to each in turn.

  A run of an optimizer lives in one member. It is chosen by its `run_id` (one is made up when you
  give none), so `run_get/3` and `run_stop/3` find it; and what the run has taught a program is
  given to the other members, too. `stats`, `usage`, `history` and `run_list` tell of one member:
  `members/1` gives them all.

      for bridge <- DSPyBridge.Pool.members(MyApp.DSPy), do: DSPyBridge.stats!(bridge)

  ## Options

    * `:name` - required, an atom
    * `:size` - how many daemons. Default: the number of schedulers
    * all others are those of `DSPyBridge.start_link/1`, the same for every member
  """

  use Supervisor

  alias DSPyBridge.{Bridge, Call, Options, Secret, Specs}

  @to_all ~w(configure create_module create_program put_dataset import delete shutdown)
  @runs ~w(optimize run_get run_stop)

  @enforce_keys [:name, :members, :size, :turns]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          name: atom(),
          members: atom(),
          size: pos_integer(),
          turns: :atomics.atomics_ref()
        }

  @doc "The specification of a pool under a supervisor."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    {name, _size, _options} = checked = check!(options)
    start = {__MODULE__, :start_link, [Secret.wrap(checked)]}
    %{id: name, start: start, type: :supervisor}
  end

  @doc "Starts a pool, linked to the calling process."
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options) do
    {name, size, options} = check!(options)
    Supervisor.start_link(__MODULE__, {name, size, Secret.wrap(options)}, name: name)
  end

  defp check!(options) do
    case Secret.unwrap(options) do
      {_name, _size, _options} = checked ->
        checked

      options ->
        {own, options} = Keyword.split(options, [:name, :size])
        size = Keyword.get(own, :size, System.schedulers_online())

        unless is_atom(own[:name]) and own[:name] != nil,
          do: raise(ArgumentError, "DSPyBridge.Pool needs a :name, an atom")

        unless is_integer(size) and size > 0,
          do:
            raise(ArgumentError, "the :size of a DSPyBridge.Pool must be an integer, at least 1")

        Options.validate!(options)
        {own[:name], size, options}
    end
  end

  @impl true
  def init({name, size, options}) do
    pool = %__MODULE__{
      name: name,
      members: Module.concat(name, Members),
      size: size,
      turns: :atomics.new(1, signed: false)
    }

    {:ok, _} = Registry.register(DSPyBridge.Registry, {:bridge, self()}, pool)
    member = %{DSPyBridge.child_spec([]) | start: {DSPyBridge, :start_link, [options]}}
    partitions = {PartitionSupervisor, child_spec: member, name: pool.members, partitions: size}
    Supervisor.init([partitions], strategy: :one_for_one)
  end

  @doc "The bridges of a pool, as pids."
  @spec members(atom()) :: [pid()]
  def members(name) do
    {:pool, pool} = Bridge.resolve(name)
    for bridge <- bridges(pool), pid = GenServer.whereis(bridge), do: pid
  end

  @doc "The bridge of a pool that has the calls with this key."
  @spec member(atom(), term()) :: GenServer.name()
  def member(name, key) do
    {:pool, pool} = Bridge.resolve(name)
    bridge(pool, key)
  end

  @doc false
  @spec bridges(t()) :: [GenServer.name()]
  def bridges(%__MODULE__{} = pool),
    do: for(number <- 0..(pool.size - 1), do: numbered(pool, number))

  @doc false
  @spec pick(t(), Call.t()) :: GenServer.name()
  def pick(%__MODULE__{} = pool, %Call{key: nil} = call) do
    case call.command in @runs && Specs.get(call.args, :run_id) do
      id when is_binary(id) -> bridge(pool, id)
      _ -> numbered(pool, rem(:atomics.add_get(pool.turns, 1, 1), pool.size))
    end
  end

  def pick(%__MODULE__{} = pool, %Call{key: key}), do: bridge(pool, key)

  # An integer is its own partition, modulo; anything else is hashed.
  defp bridge(pool, key), do: numbered(pool, :erlang.phash2(key, pool.size))
  defp numbered(pool, number), do: {:via, PartitionSupervisor, {pool.members, number}}

  @doc false
  @spec run(t(), Call.t()) :: DSPyBridge.result()
  def run(pool, %Call{command: command} = call) when command in @to_all do
    answers = for bridge <- bridges(pool), do: Call.run(%{call | target: bridge})
    Enum.find(answers, hd(answers), &match?({:error, _error}, &1))
  end

  def run(pool, %Call{command: "optimize"} = call) do
    call = with_run_id(call)
    chosen = pick(pool, call)

    with {:ok, result} = answer <- Call.run(%{call | target: chosen}) do
      share(pool, chosen, result)
      answer
    end
  end

  def run(pool, %Call{command: "run_get"} = call) do
    chosen = pick(pool, call)

    with {:ok, result} = answer <- Call.run(%{call | target: chosen}) do
      share(pool, chosen, result["result"])
      answer
    end
  end

  def run(pool, call), do: Call.run(%{call | target: pick(pool, call)})

  defp with_run_id(call) do
    if Specs.get(call.args, :run_id) || Specs.get(call.args, :resume) do
      call
    else
      id = "run-" <> Base.encode16(:crypto.strong_rand_bytes(8), case: :lower)
      %{call | args: Map.put(call.args, :run_id, id)}
    end
  end

  # The specs that a run has changed, to the members that did not run it.
  defp share(pool, chosen, %{"optimized_program" => %{"id" => id} = program}) do
    {:ok, teacher} = Bridge.resolve(chosen)

    keys = [
      {"program", id} | for({module, _} <- program["modules"] || %{}, do: {"module", module})
    ]

    for {kind, id} <- Enum.reverse(keys),
        {:ok, requests} <- [Specs.fetch(teacher, kind, id)],
        {command, args} <- requests,
        bridge <- bridges(pool) -- [chosen],
        do: Call.run(Call.new(bridge, command, args, []))
  end

  defp share(_pool, _chosen, _result), do: :ok
end
