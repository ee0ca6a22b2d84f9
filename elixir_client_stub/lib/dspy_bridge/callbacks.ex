defmodule DSPyBridge.Callbacks do
  @moduledoc """
  Functions of the application that the daemon may call.

  | Kind | Called with | Gives |
  | --- | --- | --- |
  | `:tool` | `args` | anything; the LM is shown it |
  | `:metric` | `example, prediction` | a number, a boolean, or `%{score: number, feedback: text}` |
  | `:reward` | `inputs, prediction` | a number or a boolean |
  | `:retriever` | `query, k` | a list of strings, or of `%{text: text, id: id, score: score}` |
  | `:lm` | `messages, request` | text, or `%{text:, tool_calls:, usage:, finish_reason:}` |
  | `:forward` | `inputs` | the program's output fields by name |

  Each may take one argument more, the `DSPyBridge.Context`. Maps have string keys:

      def f1(%{"answer" => wanted}, %{"answer" => got}, _context), do: MyApp.Text.f1(wanted, got)

      def search(%{"query" => query}), do: MyApp.Search.run(query)

      def chat(messages, %{"config" => config, "tools" => tools}), do: MyApp.LLM.chat(messages, config, tools)

  A callback is a function, or `{module, function, args}`; the `args` then follow those above, of
  which the module's function may again leave the context out.

  ## Where they are given

  When the bridge starts (`tools:`, `metrics:`, `rewards:`, `retrievers:`, `lms:`, `forwards:`), by
  `DSPyBridge.register/4`, or in place:

    * `metric:` of `DSPyBridge.optimize/3` and `DSPyBridge.evaluate/3`
    * `forward:` of `DSPyBridge.create_program/3`
    * `run:` of a tool of `DSPyBridge.create_module/3`
    * `config: %{reward: function}` of `best_of_n` and `refine`, and `config: %{host: function}` of
      a `retrieve` module
    * `run:` of an LM with `provider: "host"`

  ## What they may do

  Each runs in a task of its own under the bridge's supervisor, as many at once as the daemon asks
  for. The process that made the request is among its `$callers`, so that an Ecto sandbox or a
  `Mox` expectation of that process holds in the callback, too.

  `{:ok, value}` is the same as `value`. `{:error, reason}` and an exception are answered as
  `host_error`, with the reason's text but without the stacktrace, which goes to `Logger`: an LM
  is shown the text of a tool's failure. A `DSPyBridge.Error`, given or raised, keeps its code: an
  LM that answers `:lm_rate_limited` is asked again, and what fails within a `forward` is told as
  what it was. When the daemon no longer wants the answer, because the
  request was cancelled or its deadline is over, the task is killed.
  """

  require Logger

  alias DSPyBridge.{Bridge, Codec, Context, Error, Link, Options, Secret, Telemetry, Wire}

  @type kind :: :tool | :metric | :reward | :retriever | :lm | :forward
  @type callback :: function() | {module(), atom(), [term()]}

  # kind: {the wire's target, the start option, arguments without the context, and what they are}
  @kinds %{
    tool: {"tool", :tools, 1, "args"},
    metric: {"metric", :metrics, 2, "example, prediction"},
    reward: {"reward", :rewards, 2, "inputs, prediction"},
    retriever: {"retrieve", :retrievers, 2, "query, k"},
    lm: {"lm", :lms, 2, "messages, request"},
    forward: {"forward", :forwards, 1, "inputs"}
  }
  @by_target Map.new(@kinds, fn {kind, {target, _, _, _}} -> {target, kind} end)

  ## Registering

  @doc """
  Checks that a callback has a shape of its kind; gives it back or raises `ArgumentError`.

      iex> DSPyBridge.Callbacks.check!(:tool, "now", fn -> DateTime.utc_now() end)
      ** (ArgumentError) the tool "now" takes (args) or (args, context), but the function has arity 0

  """
  @spec check!(kind(), term(), callback()) :: callback()
  def check!(kind, name, callback) when is_map_key(@kinds, kind) do
    {_target, _option, arity, shape} = @kinds[kind]
    takes = "the #{kind} #{inspect(name)} takes (#{shape}) or (#{shape}, context)"

    unless is_binary(name) or is_atom(name) or is_integer(name),
      do: raise(ArgumentError, "the name of a #{kind} is a string: #{inspect(name)}")

    case callback do
      fun when is_function(fun, arity) or is_function(fun, arity + 1) ->
        fun

      fun when is_function(fun) ->
        {:arity, has} = Function.info(fun, :arity)
        raise ArgumentError, "#{takes}, but the function has arity #{has}"

      {module, function, args} when is_atom(module) and is_atom(function) and is_list(args) ->
        if mfa_arity(callback, arity) == nil do
          name = "#{inspect(module)}.#{function}"
          more = if args == [], do: "", else: ", and #{length(args)} more"
          raise ArgumentError, "#{takes}#{more}, but there is no such #{name}"
        end

        callback

      other ->
        raise ArgumentError, "#{takes}, but is given as #{inspect(other)}"
    end
  end

  def check!(kind, _name, _callback) do
    known = Map.keys(@kinds)
    raise ArgumentError, "no kind of callback #{inspect(kind)}" <> Options.hint(kind, known)
  end

  # The arguments with the context, if the module takes it; else without.
  defp mfa_arity({module, function, args}, arity) do
    Code.ensure_loaded(module)
    more = length(args)
    Enum.find([arity + 1, arity], &function_exported?(module, function, &1 + more))
  end

  @doc false
  @spec put(Bridge.t(), kind(), term(), callback()) :: :ok
  def put(bridge, kind, name, callback) do
    :ets.insert(bridge.callbacks, {{kind, to_string(name)}, callback})
    :ok
  end

  @doc false
  def put_all(bridge, options) do
    for {kind, {_target, option, _arity, _shape}} <- @kinds,
        {name, callback} <- options[option],
        do: put(bridge, kind, name, callback)
  end

  @doc false
  def delete(bridge, kind, name), do: forget(bridge, {kind, to_string(name)})

  @doc false
  def forget(bridge, key) do
    :ets.delete(bridge.callbacks, key)
    :ok
  rescue
    # The bridge was stopped in the meantime.
    ArgumentError -> :ok
  end

  ## Functions in place

  @doc false
  # Registers the functions among a command's arguments and puts their names in their place. Gives
  # the arguments, and the keys of what was registered for this call only.
  @spec extract(Bridge.t(), String.t(), map()) :: {map(), [term()]}
  def extract(bridge, command, args) when command in ["optimize", "evaluate"] do
    case field(args, :metric) do
      {key, callback} when is_function(callback) or is_tuple(callback) ->
        {name, lasting?} = name_of(callback)
        put(bridge, :metric, name, check!(:metric, name, callback))
        detached? = match?({_key, true}, field(args, :detach))
        temporary = if lasting? or detached?, do: [], else: [{:metric, name}]
        {Map.put(args, key, %{host: name}), temporary}

      _ ->
        {args, []}
    end
  end

  def extract(bridge, "create_program", args) do
    args = registered(bridge, args, :forward, :forward, args_id(args), "host")
    {update(args, :modules, fn modules -> Enum.map(modules, &module(bridge, &1)) end), []}
  end

  def extract(bridge, "create_module", args), do: {module(bridge, args), []}

  def extract(bridge, "configure", args) do
    args = update(args, :lm, &lm(bridge, &1))
    {update(args, :lms, &Map.new(&1, fn {name, spec} -> {name, lm(bridge, spec)} end)), []}
  end

  def extract(_bridge, _command, args), do: {args, []}

  defp module(bridge, %{} = spec) do
    id = args_id(spec)

    spec
    |> update(:tools, fn tools -> Enum.map(tools, &tool(bridge, &1)) end)
    |> update(:lm, &lm(bridge, &1))
    |> update(:config, fn config ->
      config = Map.new(config)
      config = registered(bridge, config, :reward, :reward, id, %{host: id})
      registered(bridge, config, :host, :retriever, id, id)
    end)
  end

  defp module(_bridge, id), do: id

  defp tool(bridge, %{} = tool), do: without_run(bridge, tool, :tool, :name)
  defp tool(_bridge, other), do: other

  defp lm(bridge, spec) when is_list(spec), do: lm(bridge, Map.new(spec))
  defp lm(bridge, %{} = spec) when not is_struct(spec), do: without_run(bridge, spec, :lm, :model)
  defp lm(_bridge, name), do: name

  defp without_run(bridge, spec, kind, named_by) do
    case {field(spec, :run), field(spec, named_by)} do
      {nil, _name} ->
        spec

      {{key, callback}, {_key, name}} ->
        put(bridge, kind, name, check!(kind, name, callback))
        Map.delete(spec, key)

      {_run, nil} ->
        raise ArgumentError, "a #{kind} with :run needs a #{inspect(named_by)}"
    end
  end

  # A function under `key` is registered under `name`, and `instead` stands in its place.
  defp registered(bridge, map, key, kind, name, instead) do
    case field(map, key) do
      {key, callback} when is_function(callback) or is_tuple(callback) ->
        put(bridge, kind, name, check!(kind, name, callback))
        Map.put(map, key, instead)

      _ ->
        map
    end
  end

  # A named function has a name for good; a closure gets one for the time of the call.
  defp name_of({module, function, args}),
    do: {"#{inspect(module)}.#{function}" <> if(args == [], do: "", else: inspect(args)), true}

  defp name_of(function) do
    case Function.info(function, :type) do
      {:type, :external} -> {String.trim_leading(inspect(function), "&"), true}
      {:type, :local} -> {"fn-#{System.unique_integer([:positive])}", false}
    end
  end

  defp args_id(args), do: with({_key, id} <- field(args, :id), do: to_string(id))

  defp field(map, key) do
    text = Atom.to_string(key)

    case map do
      %{^key => value} -> {key, value}
      %{^text => value} -> {text, value}
      _ -> nil
    end
  end

  defp update(map, key, change) do
    case field(map, key) do
      {key, value} when value != nil -> Map.put(map, key, change.(value))
      _ -> map
    end
  end

  ## Serving

  @doc false
  # The task of one host call, which may begin before the call has come.
  @spec serve_next(Bridge.t()) :: :ok
  def serve_next(bridge) do
    receive do: ({:serve, link, frame} -> serve(bridge, link, frame))
  end

  defp serve(bridge, link, frame) do
    {:ok, {:call, call}} = Wire.decode(link.codec, frame)
    link_callers(bridge, call["id"])
    told = %{bridge: bridge.name, target: call["target"], name: call["name"], request: call["id"]}
    outcome = Telemetry.host_call(told, fn -> run(bridge, call) end)
    answer(link, call["call"], outcome)
  end

  defp link_callers(bridge, request) do
    with [{_id, caller, _alias, _events?, _change}] <- :ets.lookup(bridge.calls, request),
         do: Process.put(:"$callers", [caller | Process.get(:"$callers", [])])
  end

  defp run(bridge, call) do
    context = %Context{
      bridge: bridge.supervisor,
      call: call["call"],
      target: call["target"],
      name: call["name"],
      request: call["id"],
      args: call["args"]
    }

    with {:ok, kind, callback} <- find(bridge, call["target"], call["name"]) do
      outcome(invoke(kind, callback, arguments(kind, call["args"]), context))
    end
  catch
    kind, reason ->
      Logger.error(
        "dspy-bridge: the #{call["target"]} #{inspect(call["name"])} failed: " <>
          Exception.format(kind, reason, __STACKTRACE__),
        dspy_bridge: bridge.name,
        dspy_request: call["id"],
        crash_reason: {reason, __STACKTRACE__}
      )

      {:error, told(kind, reason)}
  end

  defp find(bridge, target, name) do
    kind = @by_target[target]

    case :ets.lookup(bridge.callbacks, {kind, name}) do
      [{_key, callback}] ->
        {:ok, kind, callback}

      [] ->
        known = bridge.callbacks |> :ets.match({{kind, :"$1"}, :_}) |> List.flatten()

        {:error,
         "no #{kind || target} #{inspect(name)} is registered" <> Options.hint(name, known)}
    end
  end

  defp arguments(:tool, args), do: [args]
  defp arguments(:metric, args), do: [args["example"], args["prediction"]]
  defp arguments(:reward, args), do: [args["inputs"], args["prediction"]]
  defp arguments(:retriever, args), do: [args["query"], args["k"]]
  defp arguments(:lm, args), do: [args["messages"], args]
  defp arguments(:forward, args), do: [args["inputs"]]

  defp invoke(_kind, function, args, context) when is_function(function) do
    if is_function(function, length(args)),
      do: apply(function, args),
      else: apply(function, args ++ [context])
  end

  defp invoke(_kind, {module, function, more} = mfa, args, context) do
    args = if mfa_arity(mfa, length(args)) == length(args), do: args, else: args ++ [context]
    apply(module, function, args ++ more)
  end

  defp outcome({:ok, value}), do: {:ok, value}
  defp outcome({:error, reason}), do: {:error, text(reason)}
  defp outcome(value), do: {:ok, value}

  defp text(%Error{} = error), do: error
  defp text(reason) when is_binary(reason), do: reason
  defp text(reason) when is_exception(reason), do: Exception.message(reason)
  defp text(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp text(%Secret{} = reason), do: inspect(reason)
  defp text(reason), do: inspect(reason, limit: 20, printable_limit: 500)

  defp told(:error, %Error{} = error), do: error
  defp told(:error, reason), do: :error |> Exception.normalize(reason) |> Exception.message()
  defp told(kind, reason), do: Exception.format_banner(kind, reason)

  # What the daemon cannot be sent is a failure of the callback.
  defp answer(link, call, outcome) do
    frame =
      with {:ok, frame} <- Codec.encode(link.codec, Wire.answer(call, outcome)),
           :ok <- fits(frame, link) do
        frame
      else
        {:error, text} when is_binary(text) -> failed(link, call, text)
        {:error, error} -> failed(link, call, error.message)
      end

    # If the daemon is gone, so is whoever wanted this.
    Link.write(link, frame, :infinity)
    :ok
  end

  defp fits(frame, %{max_frame: most}) do
    size = IO.iodata_length(frame)
    if size <= most, do: :ok, else: {:error, "the answer has #{size} bytes, at most #{most} fit"}
  end

  defp failed(link, call, text) do
    {:ok, frame} = Codec.encode(link.codec, Wire.answer(call, {:error, text}))
    frame
  end
end
