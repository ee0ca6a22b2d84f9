defmodule DSPyBridge.Bridge do
  @moduledoc false
  # What every process needs to know to talk to a daemon: where the tables of its bridge are.
  #
  #   calls      {request id, caller, alias, wants events?, spec} - whom a reply is for
  #   callbacks  {{kind, name}, callback}
  #   specs      what a fresh daemon is sent, see `DSPyBridge.Specs`
  #   link       {:link, %Link{}} while the daemon is up
  #
  # The supervisor owns them, so they outlive the process that owns the port.

  require Logger

  alias DSPyBridge.{Context, Error, Link, Pool}

  @enforce_keys [:supervisor, :name, :calls, :callbacks, :specs, :link, :ids]
  defstruct @enforce_keys

  @type t :: %__MODULE__{}

  @doc "The tables of a new bridge, owned by the calling process, which is its supervisor."
  @spec create(term()) :: t()
  def create(name) do
    bridge = %__MODULE__{
      supervisor: self(),
      name: name || self(),
      calls: :ets.new(:dspy_bridge_calls, [:public, write_concurrency: true]),
      callbacks: :ets.new(:dspy_bridge_callbacks, [:public, read_concurrency: true]),
      specs: :ets.new(:dspy_bridge_specs, [:public]),
      link: :ets.new(:dspy_bridge_link, [:public, read_concurrency: true]),
      ids: :atomics.new(1, signed: false)
    }

    {:ok, _} = Registry.register(DSPyBridge.Registry, {:bridge, self()}, bridge)
    bridge
  end

  @doc "The name under which a part of a bridge (`:owner`, `:tasks`, `:events`) is registered."
  @spec part(t(), atom()) :: GenServer.name()
  def part(%__MODULE__{supervisor: supervisor}, part),
    do: {:via, Registry, {DSPyBridge.Registry, {part, supervisor}}}

  @doc "Tells the log something that went wrong with the bridge."
  @spec log(t(), String.t()) :: :ok
  def log(%__MODULE__{name: name}, text),
    do: Logger.error("dspy-bridge: " <> text, dspy_bridge: name)

  @doc "A new id of a request; 0 is the owner's own."
  @spec next_id(t()) :: pos_integer()
  def next_id(%__MODULE__{ids: ids}), do: :atomics.add_get(ids, 1, 1)

  @doc "The bridge, or the pool, that a name, pid or context stands for."
  @spec resolve(DSPyBridge.bridge()) :: {:ok, t()} | {:pool, Pool.t()} | {:error, Error.t()}
  def resolve(%Context{bridge: pid}), do: resolve(pid)

  def resolve(target) do
    with pid when is_pid(pid) <- GenServer.whereis(target),
         [{_pid, found}] <- Registry.lookup(DSPyBridge.Registry, {:bridge, pid}) do
      if is_struct(found, Pool), do: {:pool, found}, else: {:ok, found}
    else
      _ -> {:error, not_running(target)}
    end
  end

  @doc "The bridges that a target stands for; raises when there is none."
  @spec members!(DSPyBridge.bridge()) :: [t()]
  def members!(target) do
    case resolve(target) do
      {:ok, bridge} -> [bridge]
      {:pool, pool} -> pool |> Pool.bridges() |> Enum.flat_map(&members!/1)
      {:error, error} -> raise error
    end
  end

  @doc """
  The link to the daemon; waits for it while the daemon is starting.

  `last` is the epoch of a link that is known to be broken: its owner may not have heard so yet.
  """
  @spec link(t(), timeout(), non_neg_integer()) :: {:ok, Link.t()} | {:error, Error.t()}
  def link(%__MODULE__{} = bridge, timeout, last \\ 0) do
    case :ets.lookup(bridge.link, :link) do
      [{:link, %Link{epoch: epoch} = link}] when epoch > last -> {:ok, link}
      _ -> ask(bridge, {:link, last}, timeout)
    end
  rescue
    # The bridge was stopped in the meantime, and its tables went with it.
    ArgumentError -> {:error, not_running(bridge.name)}
  end

  @doc "Waits for the `:link`, for `:info` (what hello told) or until the daemon is `:ready`."
  @spec await(DSPyBridge.bridge(), :info | :ready, timeout()) :: term()
  def await(target, what, timeout) do
    case resolve(target) do
      {:ok, bridge} -> ask(bridge, what, timeout)
      {:pool, pool} -> await_all(Pool.bridges(pool), what, timeout)
      {:error, _error} = failed -> failed
    end
  end

  defp await_all(bridges, what, timeout) do
    Enum.reduce_while(bridges, nil, fn bridge, _last ->
      case await(bridge, what, timeout) do
        {:error, _error} = failed -> {:halt, failed}
        answer -> {:cont, answer}
      end
    end)
  end

  defp ask(bridge, what, timeout) do
    GenServer.call(part(bridge, :owner), {:await, what}, timeout)
  catch
    :exit, {:timeout, _call} ->
      {:error, Error.new(:timeout, "the daemon was not up within #{timeout} ms")}

    :exit, _reason ->
      {:error, not_running(bridge.name)}
  end

  @doc false
  def not_running(target),
    do: Error.new(:not_running, "no bridge runs as #{inspect(target)}, or it is stopping")
end
