defmodule DSPyBridge.FakeDaemon.Script do
  @moduledoc false
  # What a fake daemon answers, as data: the test's stubs and answers, and what each connection,
  # that is each life of the daemon, was told to keep.

  alias DSPyBridge.{Error, FakeDaemon}

  defstruct stubs: %{}, kept: %{}

  @codes Map.new(Error.codes(), &{&1, Atom.to_string(&1)})
  @keeping ~w(create_module create_program put_dataset)

  def new, do: %__MODULE__{}

  def put(script, key, answer), do: %{script | stubs: Map.put(script.stubs, key, answer)}

  @doc "A connection has ended, and what it kept with it."
  def forget(script, connection), do: %{script | kept: Map.delete(script.kept, connection)}

  @doc "The answer of a request: an outcome, or a function of the request that gives it."
  def take(script, call, connection) do
    case Map.fetch(script.stubs, {:command, call.command}) do
      {:ok, answer} -> {answer, script}
      :error -> by_itself(script, call, connection)
    end
  end

  defp by_itself(script, %{command: command, args: args}, connection)
       when command in ["forward", "execute", "batch"] do
    {kind, id} = called(args)

    case {script.stubs, kept(script, connection)} do
      {%{{:fields, ^id} => [answer | rest]}, specs} when is_map_key(specs, {kind, id}) ->
        left = if rest == [], do: [answer], else: rest
        {fields(command, answer), put(script, {:fields, id}, left)}

      {_stubs, %{{^kind, ^id} => %{"forward" => "host"}}} ->
        {fields(command, &host_forward(id, &1, &2)), script}

      {_stubs, specs} when is_map_key(specs, {kind, id}) ->
        {{:error, :unsupported, "the fake daemon was given no answer for #{id}"}, script}

      _ ->
        {unknown(kind, id), script}
    end
  end

  defp by_itself(script, %{command: command, args: args}, connection) do
    case own(command, args, kept(script, connection)) do
      {:keep, told, kept} -> {told, %{script | kept: Map.put(script.kept, connection, kept)}}
      outcome -> {outcome, script}
    end
  end

  defp kept(script, connection), do: Map.get(script.kept, connection, %{})

  defp called(%{"module_id" => id}), do: {"module", to_string(id)}
  defp called(args), do: {"program", to_string(args["program_id"])}

  defp unknown(kind, id) do
    details = %{"kind" => kind, "id" => id, "need" => "spec"}
    {:error, Error.new(:not_found, "no #{kind} has the id #{inspect(id)}", details: details)}
  end

  ## Commands that need no stub: an outcome, or `{:keep, result, what is kept from now on}`

  defp own("configure", _args, kept), do: {:keep, %{status: "configured"}, kept}

  defp own(command, %{"id" => id} = args, kept) when command in @keeping do
    command |> String.split("_") |> List.last() |> keep(to_string(id), args, kept)
  end

  defp own("import", args, kept) do
    specs = for kind <- ["module", "program"], spec <- args[kind <> "s"] || [], do: {kind, spec}

    kept =
      Enum.reduce(specs, kept, fn {kind, spec}, kept ->
        {:keep, _told, kept} = keep(kind, to_string(spec["id"]), spec, kept)
        kept
      end)

    {:keep, %{modules: count(args["modules"]), programs: count(args["programs"])}, kept}
  end

  defp own("get", %{"kind" => kind, "id" => id}, kept) do
    case Map.fetch(kept, {kind, to_string(id)}) do
      {:ok, spec} -> Map.merge(spec, %{"kind" => kind, "version" => version(spec)})
      :error -> unknown(kind, to_string(id))
    end
  end

  defp own("list", args, kept) do
    kinds = if args["kind"], do: [args["kind"]], else: ["module", "program", "dataset"]

    Map.new(kinds, fn kind ->
      {kind <> "s", for({{^kind, _id}, spec} <- kept, do: row(kind, spec))}
    end)
  end

  defp own("delete", %{"kind" => kind, "id" => id}, kept) do
    key = {kind, to_string(id)}

    if is_map_key(kept, key),
      do: {:keep, %{deleted: true, kind: kind, id: id}, Map.delete(kept, key)},
      else: unknown(kind, to_string(id))
  end

  defp own("export", _args, kept) do
    %{
      modules: for({{"module", _id}, spec} <- kept, do: spec),
      programs: for({{"program", _id}, spec} <- kept, do: spec)
    }
  end

  defp own("ping", args, _kept), do: args
  defp own("usage", _args, _kept), do: %{lms: %{}, programs: %{}, total: %{calls: 0}}
  defp own("history", _args, _kept), do: %{rows: []}
  defp own("run_list", _args, _kept), do: %{runs: []}

  defp own("stats", _args, kept) do
    %{in_flight: 1, queued: 0, modules: held("module", kept), programs: held("program", kept)}
  end

  defp own(command, _args, _kept),
    do: {:error, :unsupported, "the fake daemon has no stub for #{command}"}

  defp keep("dataset" = kind, id, args, kept) do
    old = if args["append"], do: get_in(kept, [{kind, id}, "examples"]) || [], else: []
    spec = %{"id" => args["id"], "examples" => old ++ args["examples"]}
    {:keep, row(kind, spec), Map.put(kept, {kind, id}, spec)}
  end

  defp keep(kind, id, args, kept) do
    spec = Map.drop(args, ["kind", "version"])

    {:keep, row(kind, spec),
     kept |> Map.merge(whole(args["modules"])) |> Map.put({kind, id}, spec)}
  end

  # A program may hold whole module specs.
  defp whole(modules) do
    for %{"id" => id, "type" => _} = spec <- modules || [],
        into: %{},
        do: {{"module", to_string(id)}, Map.delete(spec, "name")}
  end

  defp row("module", spec), do: %{id: spec["id"], type: spec["type"], version: version(spec)}
  defp row("program", spec), do: %{id: spec["id"], version: version(spec)}

  defp row("dataset", spec),
    do: %{id: spec["id"], count: count(spec["examples"]), version: version(spec)}

  defp held(kind, kept), do: Enum.count(kept, &match?({{^kind, _id}, _spec}, &1))
  defp count(list), do: length(list || [])
  defp version(spec), do: spec |> :erlang.phash2() |> Integer.to_string(16)

  ## Output fields

  defp fields("batch", answer),
    do: fn args, request -> {:ok, %{rows: rows(answer, args, request)}} end

  defp fields(_command, answer) do
    fn args, request ->
      outcome = outcome!(run(answer, args["inputs"] || %{}, request))
      with {:ok, %{} = outputs} <- outcome, do: speak(request, outputs)
      outcome
    end
  end

  defp rows(answer, args, request) do
    for {inputs, index} <- Enum.with_index(args["inputs"]) do
      case outcome!(run(answer, inputs, request)) do
        {:ok, outputs} -> %{index: index, outputs: outputs, error: nil}
        {:error, error} -> %{index: index, outputs: nil, error: error}
      end
    end
  end

  defp host_forward(id, inputs, request) do
    args = %{program_id: id, inputs: inputs}

    with {:error, message} <- FakeDaemon.call_host(request, "forward", id, args),
         do: {:error, :host_error, message}
  end

  # A stream: the words of each text field.
  defp speak(%{envelope: %{"stream" => true}} = request, outputs) do
    for {field, text} when is_binary(text) <- outputs,
        {word, index} <- Enum.with_index(String.split(text, ~r/(?<=\s)/)) do
      FakeDaemon.chunk(request, to_string(field), word, %{
        index: index,
        module_id: request.args["module_id"]
      })
    end
  end

  defp speak(_request, _outputs), do: :ok

  ## Outcomes

  @doc "Runs a function of a stub; an answer that is no function is itself."
  def run(answer, args, _request) when is_function(answer, 1), do: answer.(args)
  def run(answer, args, request) when is_function(answer, 2), do: answer.(args, request)
  def run(answer, _args, _request), do: answer

  @doc "`{:ok, result}`, `{:error, map of the wire}` or `:never`; raises for what is none of these."
  def outcome!({:ok, result}), do: {:ok, result}
  def outcome!(:never), do: :never
  def outcome!({:error, %Error{} = error}), do: {:error, wire(error)}
  def outcome!({:error, %{code: _, message: _} = error}), do: {:error, error}

  def outcome!({:error, code}) when is_map_key(@codes, code),
    do: outcome!({:error, code, "the fake daemon was told so"})

  def outcome!({:error, code, message}) when is_map_key(@codes, code) and is_binary(message),
    do: {:error, wire(Error.new(code, message))}

  def outcome!(result) when is_map(result) and not is_struct(result), do: {:ok, result}

  def outcome!(other) do
    raise ArgumentError,
          "no answer: #{inspect(other)}; give a map, {:ok, result}, {:error, code}, " <>
            "{:error, code, message} or :never"
  end

  defp wire(%Error{} = error) do
    %{
      code: @codes[error.code],
      message: error.message,
      retriable: error.retriable,
      retry_after_ms: error.retry_after_ms,
      details: error.details
    }
  end
end
