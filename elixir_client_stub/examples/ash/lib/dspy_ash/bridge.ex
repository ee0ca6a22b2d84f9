defmodule DSPyAsh.Bridge do
  @moduledoc """
  The only module here that calls the client: the daemon's place in the supervision tree, and each
  command with the tenant of the action that calls it.

      children = [
        {DSPyAsh.Bridge, tools: %{"search" => &MyApp.Search.run/1}},
        MyAppWeb.Endpoint
      ]

  Options are those of `DSPyBridge`.
  """

  alias DSPyAsh.Error

  @daemon DSPyAsh.Daemon

  @typedoc "The context of an Ash action or change: its `tenant` counts here."
  @type context :: struct()

  @typedoc "What a command gives."
  @type result :: {:ok, map()} | {:error, Error.t()}

  @doc "The daemon under a supervisor; see `DSPyBridge` for the options."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    DSPyBridge.child_spec(Keyword.put_new(options, :name, @daemon))
  end

  @doc "Sets LMs of the tenant."
  @spec configure(map(), context()) :: result()
  def configure(args, context), do: call(:configure, [args], context)

  @doc "Makes a module known; a spec that is known already costs next to nothing."
  @spec create_module(map(), context()) :: result()
  def create_module(spec, context), do: call(:create_module, [spec], context)

  @doc "Makes a program known, with the modules that its spec holds."
  @spec create_program(map(), context()) :: result()
  def create_program(spec, context), do: call(:create_program, [spec], context)

  @doc "Gives the function of a program with `forward: :host`; after a start of the BEAM again."
  @spec register_forward(String.t(), DSPyBridge.Callbacks.callback()) :: :ok
  def register_forward(program_id, function) do
    DSPyBridge.register(@daemon, :forward, program_id, function)
  end

  @doc "The spec of a module or program, as the daemon has it."
  @spec get(:module | :program, String.t(), context()) :: result()
  def get(kind, id, context), do: call(:get, [kind, id], context)

  @doc "Makes the daemon forget a spec."
  @spec delete(:module | :program, String.t(), context()) :: result()
  def delete(kind, id, context), do: call(:delete, [kind, id], context)

  @doc "Calls a module."
  @spec forward(String.t(), map(), map(), context()) :: result()
  def forward(id, inputs, config, context) do
    call(:forward, [id, inputs], context, config: config)
  end

  @doc "Calls a program; `options` are of the envelope: `budget`, `trace`, `deadline_ms`."
  @spec execute(String.t(), map(), keyword(), context()) :: result()
  def execute(id, inputs, options, context), do: call(:execute, [id, inputs], context, options)

  @doc "Scores a program on examples."
  @spec evaluate(map(), context()) :: result()
  def evaluate(args, context), do: call(:evaluate, [args], context)

  @doc "Runs an optimizer to its end; `on_progress` is called with the data of each event."
  @spec optimize(map(), map(), (map() -> any()), context()) :: result()
  def optimize(args, budget, on_progress, context) do
    on_event = fn
      "progress", data -> on_progress.(data)
      _event, _data -> :ok
    end

    call(:optimize, [args], context, budget: budget, on_event: on_event)
  end

  @doc "Ends a run early; its `optimize` is answered with the best so far."
  @spec run_stop(String.t(), context()) :: result()
  def run_stop(run_id, context), do: call(:run_stop, [run_id], context)

  @doc "Asks an LM, by its name or the tenant's default."
  @spec generate(String.t(), String.t() | nil, map(), context()) :: result()
  def generate(prompt, lm, options, context) do
    call(:generate, [prompt], context, lm: lm, options: options)
  end

  @doc "The tenant's totals since the daemon started."
  @spec usage(context()) :: result()
  def usage(context), do: call(:usage, [], context)

  defp call(function, args, context, options \\ []) do
    options = [{:tenant, tenant(context)} | Enum.reject(options, &unset?/1)]

    case apply(DSPyBridge, function, [@daemon | args] ++ [options]) do
      {:ok, result} -> {:ok, result}
      {:error, %DSPyBridge.Error{} = error} -> {:error, Error.from_bridge(error)}
    end
  end

  defp unset?({_key, value}), do: value in [nil, false, %{}]

  defp tenant(%{tenant: nil}), do: nil
  defp tenant(%{tenant: tenant}), do: to_string(Ash.ToTenant.to_tenant(tenant, nil))
end
