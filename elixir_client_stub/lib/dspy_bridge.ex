defmodule DSPyBridge do
  @moduledoc """
  Real [DSPy](https://dspy.ai) modules, programs and optimizers for Elixir.

  A bridge owns one Python daemon, which it starts as a port, and restarts when it dies. Put it
  into the application's supervision tree:

      children = [
        {DSPyBridge,
         name: MyApp.DSPy,
         python: "/srv/dspy-bridge/.venv/bin/python",
         configure: fn ->
           %{lm: %{provider: "openai", model: "gpt-4o-mini", api_key: System.fetch_env!("OPENAI_API_KEY")}}
         end,
         metrics: %{"f1" => &MyApp.Metrics.f1/3}}
      ]

  and call it from any process:

      {:ok, _} =
        DSPyBridge.create_module(MyApp.DSPy, %{
          id: "triage",
          type: "chain_of_thought",
          signature: "message -> topic: Literal['billing', 'login'], urgency: int"
        })

      {:ok, %{"topic" => topic}} =
        DSPyBridge.forward(MyApp.DSPy, "triage", %{message: "I cannot log in"})

  Every function takes the bridge first: its name, the pid that `start_link/1` gave, the name of a
  `DSPyBridge.Pool`, or, inside a callback, the `DSPyBridge.Context`. Options come last. The result
  is `{:ok, map}` with string keys or `{:error, %DSPyBridge.Error{}}`; each function has a twin
  with `!` that gives the map or raises. Beside the fields, a result has `"_meta"`: usage,
  latency, warnings.

  ## Options of every call

  #{DSPyBridge.Call.docs()}

  ## What happens when

    * **the caller dies or gives up** - the request is cancelled, which breaks off the LM call in
      progress, and a late reply is dropped
    * **the daemon dies** - calls in flight get `:worker_died` (or are repeated, with `retry: true`).
      It is started again, with a growing pause between attempts, and the bridge sends everything
      that it was configured with and every module, program and dataset, before anything else. What
      an optimizer has taught a program is sent, too
    * **the daemon hangs** - it is asked for a sign of life every `:health_interval`, and killed
      when it gives none
    * **the BEAM dies** - so does the daemon, and what it started, within three seconds

  ## Who does what

  The bridge is a supervisor. The process that owns the port only passes frames on: it reads whom
  a frame concerns from its first bytes. Callers encode and write their requests, and decode their
  replies, themselves; so a reply of 20 MB holds up nobody but the process that asked for it.
  Each callback runs in a task of its own.

  ## Callbacks

  Tools, metrics, retrievers, rewards, LMs and programs' `forward` may be Elixir: see
  `DSPyBridge.Callbacks` for their shapes. They are given when the bridge starts, or later with
  `register/4`, or right where they are used:

      DSPyBridge.optimize(MyApp.DSPy, %{
        program_id: "qa",
        optimizer: "BootstrapFewShot",
        trainset: examples,
        metric: &MyApp.Metrics.f1/3
      })

  ## Telemetry

  Where `:telemetry` is loaded the bridge sends events: see `DSPyBridge.Telemetry`.
  """

  require DSPyBridge.Twins
  alias DSPyBridge.{Bridge, Call, Callbacks, Context, Error, Events, Options, Secret}

  @typedoc "A bridge's name or pid, a pool's name, or the context of a callback."
  @type bridge :: GenServer.server() | Context.t()

  @typedoc "The host's own id of a module, program or dataset; `5` and `\"5\"` are the same."
  @type id :: String.t() | integer()

  @typedoc "Fields by name."
  @type fields :: %{optional(String.t() | atom()) => term()} | keyword()

  @type result :: {:ok, map()} | {:error, Error.t()}
  @type kind :: :module | :program | :dataset | String.t()
  @type message :: %{optional(atom() | String.t()) => String.t()}

  @typedoc "What a stream gives; `:done` or `:error` comes last, and once."
  @type stream_item ::
          {:chunk, DSPyBridge.Chunk.t()}
          | {:status, map()}
          | {:done, map()}
          | {:error, Error.t()}

  ## Starting and stopping

  @doc """
  Starts a bridge, linked to the calling process.

  It returns at once; the daemon answers calls some 150 ms later, and those that need DSPy one to
  three seconds later. Calls wait for it. A wrong option raises `ArgumentError`; a Python that is
  not there is an error.

  ## Options

  #{Options.docs()}
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options), do: DSPyBridge.Supervisor.start_link(options)

  @doc """
  The specification of a bridge under a supervisor; the options are those of `start_link/1`.

  They are kept wrapped, so that keys among them show up in no report of the supervisor.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    options = Options.validate!(options)

    %{
      id: Keyword.get(options, :name, __MODULE__),
      start: {__MODULE__, :start_link, [Secret.wrap(options)]},
      type: :supervisor
    }
  end

  @doc """
  Stops a bridge: requests in flight have its `:grace` to finish, then the daemon ends.
  """
  @spec stop(GenServer.server(), timeout()) :: :ok
  def stop(bridge, timeout \\ :infinity), do: Supervisor.stop(bridge, :normal, timeout)

  @doc """
  Waits until DSPy is imported, so that no call pays for it.

      :ok = DSPyBridge.await_ready(MyApp.DSPy)

  """
  @spec await_ready(bridge(), timeout()) :: :ok | {:error, Error.t()}
  def await_ready(bridge, timeout \\ 60_000), do: Bridge.await(bridge, :ready, timeout)

  @doc """
  What the daemon said of itself: protocol, versions, pid, commands, module types, optimizers (and
  what each lacks), metrics, LM providers, limits.
  """
  @spec info(bridge(), timeout()) :: result()
  def info(bridge, timeout \\ 60_000), do: Bridge.await(bridge, :info, timeout)

  ## Any command

  @doc """
  Sends any command of the daemon; the other functions are this with names.

      DSPyBridge.call(MyApp.DSPy, "forward", %{module_id: "triage", inputs: %{message: "..."}}, timeout: 5_000)

  """
  @spec call(bridge(), String.t() | atom(), fields(), keyword()) :: result()
  def call(bridge, command, args \\ %{}, opts \\ []) do
    bridge |> Call.new(to_string(command), Map.new(args), opts) |> Call.run()
  end

  ## Configuring

  @doc """
  Sets LMs (of the `:tenant`), adapter, cache, limits and log level; what is left out stays.

      DSPyBridge.configure(MyApp.DSPy, %{
        lm: %{provider: "anthropic", model: "claude-sonnet-4-5", api_key: key, timeout_s: 60},
        lms: %{fast: %{provider: "openai", model: "gpt-4o-mini", api_key: other}},
        cache: %{ttl_s: 600}
      })

  The bridge keeps this, wrapped, for the next start of the daemon. `%{provider: "host", model: name}`
  is an LM of yours: see `DSPyBridge.Callbacks`.
  """
  @spec configure(bridge(), fields(), keyword()) :: result()
  def configure(bridge, args, opts \\ []), do: call(bridge, "configure", args, opts)

  @doc """
  Adds a module, or replaces the one of this id: `id`, `type`, `signature`, and `config`, `state`,
  `tools`, `lm` where wanted.

      DSPyBridge.create_module(MyApp.DSPy, %{
        id: "helper",
        type: "react",
        signature: "question -> answer",
        tools: [
          %{
            name: "search",
            description: "Finds pages about a topic.",
            parameters: %{type: "object", properties: %{query: %{type: "string"}}},
            run: fn %{"query" => query} -> MyApp.Search.find(query) end
          }
        ]
      })

  A tool with `run` is registered as a callback under its name.
  """
  @spec create_module(bridge(), fields(), keyword()) :: result()
  def create_module(bridge, spec, opts \\ []), do: call(bridge, "create_module", spec, opts)

  @doc """
  Adds a program over modules, or replaces the one of this id.

      DSPyBridge.create_program(MyApp.DSPy, %{
        id: "rag",
        modules: [%{id: "query", name: "query"}, %{id: "answer", name: "answer"}],
        forward: &MyApp.RAG.forward/2
      })

  `forward` may be a function: it is registered as a callback under the program's id, and can be
  optimized like any other program.
  """
  @spec create_program(bridge(), fields(), keyword()) :: result()
  def create_program(bridge, spec, opts \\ []), do: call(bridge, "create_program", spec, opts)

  @doc """
  Keeps examples under an id, which may then stand wherever examples may; `append: true` adds.
  """
  @spec put_dataset(bridge(), id(), [map()], keyword()) :: result()
  def put_dataset(bridge, id, examples, opts \\ []),
    do: call(bridge, "put_dataset", %{id: id, examples: examples}, opts)

  ## Calling

  @doc """
  Calls a module; the result is its output fields by name.

  `:config` gives generation options for this call only.

      DSPyBridge.forward(MyApp.DSPy, "triage", %{message: text}, config: %{temperature: 0.2}, tenant: "acme")

  """
  @spec forward(bridge(), id(), fields(), keyword()) :: result()
  def forward(bridge, module_id, inputs, opts \\ []),
    do: call(bridge, "forward", %{module_id: module_id, inputs: Map.new(inputs)}, opts)

  @doc "Calls a program; the result is its output fields by name. `:config` as in `forward/4`."
  @spec execute(bridge(), id(), fields(), keyword()) :: result()
  def execute(bridge, program_id, inputs, opts \\ []),
    do: call(bridge, "execute", %{program_id: program_id, inputs: Map.new(inputs)}, opts)

  @doc """
  Calls a module or program once a row, side by side: `{:module, id}` or `{:program, id}`.

  `result["rows"]` are `%{"index", "outputs", "error"}` in order. `:max_concurrency` (16) rows run
  at once; when more than `:max_errors` fail, the whole call does.
  """
  @spec batch(bridge(), {:module | :program, id()}, [fields()], keyword()) :: result()
  def batch(bridge, {kind, id}, inputs, opts \\ []) when kind in [:module, :program] do
    key = if kind == :module, do: :module_id, else: :program_id
    call(bridge, "batch", %{key => id, inputs: Enum.map(inputs, &Map.new/1)}, opts)
  end

  @doc """
  Asks the LM itself: with a prompt, or with messages `%{role: "user", content: "..."}`.

  `:options` are generation options, `:lm` chooses the LM. The result has `"text"`,
  `"finish_reason"`, `"model"`, `"usage"`, `"cost"`.
  """
  @spec generate(bridge(), String.t() | [message()], keyword()) :: result()
  def generate(bridge, prompt, opts \\ []), do: call(bridge, "generate", said(prompt), opts)

  @doc "Asks the LM once a prompt: `\"texts\"` and `\"rows\"` in order, a failed row with its error."
  @spec generate_batch(bridge(), [String.t()], keyword()) :: result()
  def generate_batch(bridge, prompts, opts \\ []),
    do: call(bridge, "generate_batch", %{prompts: prompts}, opts)

  @doc "Counts the tokens of a text or of messages; `\"exact\"` tells an estimate from a count."
  @spec count_tokens(bridge(), String.t() | [message()], keyword()) :: result()
  def count_tokens(bridge, text, opts \\ []) do
    args = if is_binary(text), do: %{text: text}, else: %{messages: text}
    call(bridge, "count_tokens", args, opts)
  end

  defp said(prompt) when is_binary(prompt), do: %{prompt: prompt}
  defp said(messages) when is_list(messages), do: %{messages: messages}

  ## Streaming

  @doc """
  Calls a module and gives its output as it is spoken: a lazy stream of `t:stream_item/0`.

      MyApp.DSPy
      |> DSPyBridge.stream_forward("summary", %{text: text})
      |> Enum.each(fn
        {:chunk, %DSPyBridge.Chunk{field: "summary", text: text}} -> IO.write(text)
        {:status, _status} -> :ok
        {:done, %{"summary" => whole}} -> IO.puts(["\\n", whole])
        {:error, error} -> raise error
      end)

  Nothing is sent before the stream is run, and each run is a request of its own. A stream that is
  halted early (`Enum.take/2`) cancels its request.

  ## As messages

  With `into: pid` the request starts at once and `{:ok, ref}` is returned; the process gets
  `{DSPyBridge, ref, item}` for each item. That is the way for a LiveView:

      {:ok, ref} = DSPyBridge.stream_forward(MyApp.DSPy, "summary", %{text: text}, into: self())

      def handle_info({DSPyBridge, ref, {:chunk, chunk}}, %{assigns: %{ref: ref}} = socket)

  `cancel(bridge, ref)` ends it, and so does the death of the process.

  ## How much may wait

  Items wait in the mailbox of the process that consumes them, undecoded. There is no more of them
  than the LM says in one request, which `max_tokens` bounds; the daemon does not wait for a slow
  reader, and does not grow by one either.
  """
  @spec stream_forward(bridge(), id(), fields(), keyword()) ::
          Enumerable.t(stream_item()) | {:ok, reference()} | {:error, Error.t()}
  def stream_forward(bridge, module_id, inputs, opts \\ []),
    do: stream(bridge, "forward", %{module_id: module_id, inputs: Map.new(inputs)}, opts)

  @doc "Calls a program and streams what its modules say; see `stream_forward/4`."
  @spec stream_execute(bridge(), id(), fields(), keyword()) ::
          Enumerable.t(stream_item()) | {:ok, reference()} | {:error, Error.t()}
  def stream_execute(bridge, program_id, inputs, opts \\ []),
    do: stream(bridge, "execute", %{program_id: program_id, inputs: Map.new(inputs)}, opts)

  @doc "Asks the LM and streams the field `\"text\"`; see `stream_forward/4` and `generate/3`."
  @spec stream_generate(bridge(), String.t() | [message()], keyword()) ::
          Enumerable.t(stream_item()) | {:ok, reference()} | {:error, Error.t()}
  def stream_generate(bridge, prompt, opts \\ []),
    do: stream(bridge, "generate", said(prompt), opts)

  defp stream(bridge, command, args, opts) do
    {into, opts} = Keyword.pop(opts, :into)
    call = Call.new(bridge, command, args, [{:stream, true} | opts])
    if into, do: DSPyBridge.Stream.into(call, into), else: DSPyBridge.Stream.lazy(call)
  end

  ## Optimizing and evaluating

  @doc """
  Teaches a program by examples and a metric; the result is what it has learned.

      DSPyBridge.optimize(
        MyApp.DSPy,
        %{program_id: "qa", optimizer: "MIPROv2", trainset: "train", metric: &MyApp.Metrics.f1/3},
        budget: %{cost_usd: 5},
        on_event: fn "progress", progress -> MyApp.Runs.note(progress) end
      )

  `metric` is a name (`"exact_match"`), a map (`%{name: "f1_score", field: "summary"}`), or a
  function of yours. A run may take long: there is no timeout unless you give one, and
  `detach: true` among the arguments answers at once, for `run_get/3` and `subscribe/1`.

  The bridge keeps what was learned with the specs of the modules, so that it survives a crash of
  the daemon; with `detach: true` that happens when `run_get/3` sees the run completed.
  """
  @spec optimize(bridge(), fields(), keyword()) :: result()
  def optimize(bridge, args, opts \\ []),
    do: call(bridge, "optimize", args, Keyword.put_new(opts, :timeout, :infinity))

  @doc """
  Scores a program or module on examples: `devset`, `metric`, and `program_id` or `module_id`.

  `result["rows"]` come in order; a row that failed has its `"error"` and scores 0. There is no
  timeout unless you give one.
  """
  @spec evaluate(bridge(), fields(), keyword()) :: result()
  def evaluate(bridge, args, opts \\ []),
    do: call(bridge, "evaluate", args, Keyword.put_new(opts, :timeout, :infinity))

  @doc "Lists the optimizer runs of the tenant, the newest first."
  @spec run_list(bridge(), keyword()) :: result()
  def run_list(bridge, opts \\ []), do: call(bridge, "run_list", %{}, opts)

  @doc "One run: status, progress, best score so far, and its result when it has one."
  @spec run_get(bridge(), String.t(), keyword()) :: result()
  def run_get(bridge, run_id, opts \\ []), do: call(bridge, "run_get", %{run_id: run_id}, opts)

  @doc "Ends a run early and keeps its best so far."
  @spec run_stop(bridge(), String.t(), keyword()) :: result()
  def run_stop(bridge, run_id, opts \\ []), do: call(bridge, "run_stop", %{run_id: run_id}, opts)

  @doc """
  Lets the calling process hear of detached runs, which have no caller to tell.

  It gets `{DSPyBridge, name, {:event, "progress", data}}`, where `name` is the bridge's (or its
  pid, if it has none) and `data["run_id"]` says which run it is. Subscribing twice is the same as
  once, and a subscription ends with the process.

      :ok = DSPyBridge.subscribe(MyApp.DSPy)
      {:ok, %{"run_id" => run_id}} = DSPyBridge.optimize(MyApp.DSPy, Map.put(args, :detach, true))

      def handle_info({DSPyBridge, _name, {:event, "progress", %{"run_id" => run_id} = data}}, state)

  """
  @spec subscribe(bridge()) :: :ok
  def subscribe(bridge), do: Enum.each(Bridge.members!(bridge), &Events.subscribe/1)

  @doc "Ends what `subscribe/1` began."
  @spec unsubscribe(bridge()) :: :ok
  def unsubscribe(bridge), do: Enum.each(Bridge.members!(bridge), &Events.unsubscribe/1)

  ## What the daemon holds

  @doc "Gives a spec back, with learned state and version; or a dataset with its examples."
  @spec get(bridge(), kind(), id(), keyword()) :: result()
  def get(bridge, kind, id, opts \\ []), do: call(bridge, "get", %{kind: kind, id: id}, opts)

  @doc "Lists modules, programs and datasets; only one `:kind` if that is given."
  @spec list(bridge(), keyword()) :: result()
  def list(bridge, opts \\ []), do: call(bridge, "list", %{}, opts)

  @doc "Forgets a spec or a dataset; requests in flight finish on it."
  @spec delete(bridge(), kind(), id(), keyword()) :: result()
  def delete(bridge, kind, id, opts \\ []),
    do: call(bridge, "delete", %{kind: kind, id: id}, opts)

  @doc "Gives specs as data for `import_specs/3`: all, or those of `:modules` and `:programs`."
  @spec export(bridge(), keyword()) :: result()
  def export(bridge, opts \\ []), do: call(bridge, "export", %{}, opts)

  @doc "Puts exported specs in (the command `import`): all of them, or none when one is wrong."
  @spec import_specs(bridge(), map(), keyword()) :: result()
  def import_specs(bridge, exported, opts \\ []), do: call(bridge, "import", exported, opts)

  ## Watching

  @doc "The tenant's last LM calls as `\"rows\"`, newest first: `:limit`, `:module_id`, `:program_id`."
  @spec history(bridge(), keyword()) :: result()
  def history(bridge, opts \\ []), do: call(bridge, "history", %{}, opts)

  @doc "The tenant's totals since the daemon started: per LM, per program, and all."
  @spec usage(bridge(), keyword()) :: result()
  def usage(bridge, opts \\ []), do: call(bridge, "usage", %{}, opts)

  @doc "The daemon's health: memory, threads, requests in flight and queued, specs, uptime."
  @spec stats(bridge(), keyword()) :: result()
  def stats(bridge, opts \\ []), do: call(bridge, "stats", %{}, opts)

  @doc "Gives back `args` at once, whatever else runs."
  @spec ping(bridge(), fields(), keyword()) :: result()
  def ping(bridge, args \\ %{}, opts \\ []), do: call(bridge, "ping", args, opts)

  @doc """
  Cancels a stream that was started with `into:`, by its reference.

  Other calls are cancelled by ending, or killing, the process that made them:

      task = Task.Supervisor.async_nolink(MyApp.Tasks, fn -> DSPyBridge.forward(MyApp.DSPy, "qa", inputs) end)
      Task.shutdown(task, :brutal_kill)

  """
  @spec cancel(bridge(), reference()) :: :ok
  def cancel(_bridge, ref) when is_reference(ref), do: DSPyBridge.Stream.cancel(ref)

  @doc """
  Ends the daemon in good order, within `:grace_ms`, and starts a fresh one with the same specs.

  To end the bridge itself, use `stop/2` or its supervisor.
  """
  @spec shutdown(bridge(), keyword()) :: result()
  def shutdown(bridge, opts \\ []), do: call(bridge, "shutdown", %{}, opts)

  ## Callbacks

  @doc """
  Registers a callback: `:tool`, `:metric`, `:reward`, `:retriever`, `:lm` or `:forward`.

      DSPyBridge.register(MyApp.DSPy, :tool, "search", &MyApp.Search.run/1)
      DSPyBridge.register(MyApp.DSPy, :metric, "f1", {MyApp.Metrics, :f1, []})

  A callback that is there under this name is replaced. `DSPyBridge.Callbacks` has the shapes; a
  function of another arity raises `ArgumentError`.
  """
  @spec register(bridge(), Callbacks.kind(), String.t() | atom(), Callbacks.callback()) :: :ok
  def register(bridge, kind, name, callback) do
    callback = Callbacks.check!(kind, name, callback)
    Enum.each(Bridge.members!(bridge), &Callbacks.put(&1, kind, name, callback))
  end

  @doc "Forgets a callback; calls in progress finish."
  @spec unregister(bridge(), Callbacks.kind(), String.t() | atom()) :: :ok
  def unregister(bridge, kind, name),
    do: Enum.each(Bridge.members!(bridge), &Callbacks.delete(&1, kind, name))

  @doc """
  Inside an LM callback: says a piece of the answer before it is whole.

      def chat(messages, %{"stream" => true}, context) do
        messages
        |> MyApp.LLM.stream()
        |> Enum.reduce_while("", fn piece, said ->
          case DSPyBridge.lm_chunk(context, piece) do
            :ok -> {:cont, said <> piece}
            {:error, error} -> {:halt, {:error, error}}
          end
        end)
      end

  It waits until the daemon has the piece; an error says that nobody wants the answer any more.
  """
  @spec lm_chunk(Context.t(), String.t()) :: :ok | {:error, Error.t()}
  def lm_chunk(%Context{} = context, text) when is_binary(text) do
    with {:ok, _} <- call(context, "lm_chunk", %{text: text}), do: :ok
  end

  ## The twins with an exclamation mark

  DSPyBridge.Twins.define(
    ~w(call configure create_module create_program put_dataset forward execute batch generate
       generate_batch count_tokens optimize evaluate run_list run_get run_stop get list delete
       export import_specs history usage stats ping shutdown info)a
  )
end
