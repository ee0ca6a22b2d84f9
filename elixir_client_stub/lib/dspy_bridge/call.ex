defmodule DSPyBridge.Call do
  @moduledoc false
  # One call as data: what is sent, where to, and what is done about its failures. `run/1` is the
  # whole way of a call; `DSPyBridge.Exchange` is one attempt of it.

  alias DSPyBridge.{Bridge, Callbacks, Context, Error, Exchange, Options, Pool, Specs, Telemetry}

  @options [
    timeout:
      "milliseconds to wait for the answer, or `:infinity`. Default: 60,000, or `:deadline_ms` and five seconds. A call that times out is cancelled",
    deadline_ms: "milliseconds after which the daemon itself ends the request",
    budget: "what it may spend: `%{lm_calls: n, tokens: n, cost_usd: x, seconds: x}`",
    tenant: "keeps apart LMs, cache, usage, history and turns in the queue",
    lm: "an LM for this call: a configured name, or a map as in `configure/3`",
    trace: "`true` for the LM calls as rows in `_meta`, or `%{traceparent: \"00-...\"}`",
    retry:
      "`true`: repeat the call when the daemon dies before it has answered. Default: `false`",
    on_event:
      "`fn name, data -> ... end`, called in this process for events such as `\"progress\"`",
    key: "for a `DSPyBridge.Pool`: the same key goes to the same daemon"
  ]

  # Options that are arguments of one command.
  @arguments %{
    "forward" => [:config],
    "execute" => [:config],
    "batch" => [:max_concurrency, :max_errors, :config],
    "generate" => [:options],
    "generate_batch" => [:options, :max_concurrency],
    "put_dataset" => [:append],
    "list" => [:kind],
    "export" => [:modules, :programs],
    "history" => [:limit, :module_id, :program_id],
    "shutdown" => [:grace_ms]
  }

  @envelope [:deadline_ms, :budget, :tenant, :lm, :trace, :stream]
  @default_timeout 60_000

  # After a deadline the daemon's own answer, which says more, is given time to arrive.
  @after_deadline 5_000

  # How often a call with `retry: true` is repeated before the death of the daemon is its answer.
  @most_retries 3

  # A spec that is missing may need another that is missing, and so on.
  @deepest_respec 5

  @type t :: %__MODULE__{}

  defstruct [
    :target,
    :bridge,
    :command,
    :args,
    :timeout,
    :on_event,
    :key,
    envelope: [],
    retry: false,
    keep: true,
    depth: 0
  ]

  @doc false
  def docs, do: Enum.map_join(@options, "\n", fn {name, text} -> "  * `:#{name}` - #{text}" end)

  @doc "Builds a call; raises `ArgumentError` for an option that the command does not have."
  @spec new(DSPyBridge.bridge(), String.t(), map(), keyword()) :: t()
  def new(target, command, args, opts) do
    arguments = Map.get(@arguments, command, [])
    Options.known!(opts, Keyword.keys(@options) ++ [:stream | arguments], "#{command}")
    {more, opts} = Keyword.split(opts, arguments)
    parent = with %Context{call: id} <- target, do: [parent: id], else: (_ -> [])

    %__MODULE__{
      target: target,
      command: command,
      args: Map.merge(args, Map.new(more)),
      envelope: parent ++ Keyword.take(opts, @envelope),
      timeout: timeout(opts),
      retry: Keyword.get(opts, :retry, false),
      on_event: opts[:on_event],
      key: opts[:key]
    }
  end

  defp timeout(opts) do
    case {opts[:timeout], opts[:deadline_ms]} do
      {nil, nil} -> @default_timeout
      {nil, deadline} when is_integer(deadline) -> deadline + @after_deadline
      {timeout, _deadline} -> timeout
    end
  end

  @doc "Runs a call to its answer."
  @spec run(t()) :: DSPyBridge.result()
  def run(%__MODULE__{} = call) do
    case Bridge.resolve(call.target) do
      {:ok, %Bridge{} = bridge} -> run_on(%{call | bridge: bridge})
      {:pool, pool} -> Pool.run(pool, call)
      {:error, _error} = failed -> failed
    end
  end

  @doc "Chooses the bridge of a call: of a pool, the member whose turn it is."
  @spec bind(t()) :: {:ok, t()} | {:error, Error.t()}
  def bind(%__MODULE__{} = call) do
    case Bridge.resolve(call.target) do
      {:ok, bridge} -> {:ok, %{call | bridge: bridge}}
      {:pool, pool} -> bind(%{call | target: Pool.pick(pool, call)})
      {:error, _error} = failed -> failed
    end
  end

  @doc "Runs a call on the bridge that it names."
  @spec run_on(t()) :: DSPyBridge.result()
  def run_on(%__MODULE__{bridge: bridge} = call) do
    Telemetry.call(call, fn ->
      {args, temporary} = Callbacks.extract(bridge, call.command, call.args)

      try do
        %{call | args: args} |> attempt(deadline(call.timeout), @most_retries) |> learn(call)
      after
        Enum.each(temporary, &Callbacks.forget(bridge, &1))
      end
    end)
  end

  @doc "The moment at which a timeout is over, or `:infinity`."
  @spec deadline(timeout()) :: integer() | :infinity
  def deadline(:infinity), do: :infinity
  def deadline(ms), do: System.monotonic_time(:millisecond) + ms

  @doc "What is left of the time until a moment."
  @spec left(integer() | :infinity) :: timeout()
  def left(:infinity), do: :infinity
  def left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp attempt(call, deadline, retries, last \\ 0) do
    with {:ok, link} <- Bridge.link(call.bridge, left(deadline), last) do
      case Exchange.run(call, link, deadline) do
        {:error, %Error{code: :worker_died, details: %{"daemon" => true}}}
        when call.retry and retries > 0 ->
          attempt(call, deadline, retries - 1, link.epoch)

        {:error, %Error{code: :not_found, details: %{"need" => need} = missing}} = failed
        when need in ["spec", "dataset"] ->
          if send_spec(call, missing), do: Exchange.run(call, link, deadline), else: failed

        answer ->
          answer
      end
    end
  end

  # The daemon has lost a spec that we have: it is sent again, and the call repeated once.
  defp send_spec(%{depth: depth}, _missing) when depth >= @deepest_respec, do: false

  defp send_spec(call, %{"kind" => kind, "id" => id}) do
    with {:ok, requests} <- Specs.fetch(call.bridge, kind, id) do
      Enum.all?(requests, fn {command, args} ->
        spec = %__MODULE__{
          bridge: call.bridge,
          command: command,
          args: args,
          timeout: call.timeout
        }

        match?({:ok, _}, attempt(%{spec | depth: call.depth + 1}, deadline(call.timeout), 0))
      end)
    else
      :error -> false
    end
  end

  defp send_spec(_call, _missing), do: false

  # What an optimizer taught a program belongs to the specs that a fresh daemon gets.
  defp learn({:ok, result} = answer, %{command: command} = call)
       when command in ["optimize", "run_get"] do
    Specs.learn(call.bridge, call.args, result)
    answer
  end

  defp learn(answer, _call), do: answer
end
