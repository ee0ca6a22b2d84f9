defmodule DSPyBridge.Specs do
  @moduledoc false
  # What a fresh daemon is sent before anything else: how it was configured, and every dataset,
  # module and program, in the order in which they were first created.
  #
  # A row is `{key, position, secret}`; the secret hides `[{command, args, tenant}]`, because specs
  # carry API keys. The key is `{:configure, tenant}` or `{kind, id as text}`.
  #
  # Only the owner of the port writes, when it passes on the reply that says the daemon has the
  # spec. So the table changes in the order in which the daemon's registry does.

  alias DSPyBridge.{Bridge, Call, Callbacks, Exchange, Link, Secret}

  @commands ~w(configure create_module create_program put_dataset import delete optimize)

  @typedoc "What the success of a call changes, or nil."
  @type change :: Secret.t() | nil

  @doc "What the success of this call changes here."
  @spec change(String.t(), map(), String.t() | nil) :: change()
  def change(command, args, tenant) when command in @commands,
    do: Secret.wrap({command, args, tenant})

  def change(_command, _args, _tenant), do: nil

  @doc "Makes a change; only for the owner of the port."
  @spec commit(Bridge.t(), change()) :: :ok
  def commit(_bridge, nil), do: :ok

  def commit(bridge, change) do
    {command, args, tenant} = Secret.unwrap(change)
    commit(bridge, command, args, tenant)
  end

  defp commit(bridge, "configure", args, tenant) do
    old =
      case read(bridge, {:configure, tenant}) do
        {:ok, [{_command, old, _tenant}]} -> old
        :error -> %{}
      end

    put(bridge, {:configure, tenant}, [{"configure", configured(old, texted(args)), tenant}])
  end

  defp commit(bridge, "create_module", args, _tenant),
    do: put(bridge, key("module", args), [{"create_module", args, nil}])

  defp commit(bridge, "create_program", args, _tenant),
    do: put(bridge, key("program", args), [{"create_program", args, nil}])

  defp commit(bridge, "put_dataset", args, _tenant) do
    key = key("dataset", args)
    pieces = if get(args, :append), do: read(bridge, key), else: :error
    pieces = with {:ok, pieces} <- pieces, do: pieces, else: (:error -> [])
    put(bridge, key, pieces ++ [{"put_dataset", args, nil}])
  end

  defp commit(bridge, "import", args, _tenant) do
    for module <- get(args, :modules) || [],
        do: commit(bridge, "create_module", bare(module), nil)

    for program <- get(args, :programs) || [],
        do: commit(bridge, "create_program", bare(program), nil)

    :ok
  end

  defp commit(bridge, "delete", args, _tenant) do
    :ets.delete(bridge.specs, {to_string(get(args, :kind)), to_string(get(args, :id))})
    :ok
  end

  # A program that is given whole to an optimizer is created by it.
  defp commit(bridge, "optimize", args, _tenant) do
    case get(args, :program) do
      %{} = program -> commit(bridge, "create_program", program, nil)
      _id -> :ok
    end
  end

  # What `export` tells of a spec beside the spec.
  defp bare(spec), do: spec |> texted() |> Map.drop(["version", "kind"])

  # `configure` leaves what it is not told; maps of names are added to.
  defp configured(old, new) do
    Map.merge(old, new, fn
      key, %{} = was, %{} = now when key in ["lms", "limits"] -> Map.merge(was, now)
      _key, _was, now -> now
    end)
  end

  @doc """
  Keeps what an optimizer has taught, when the result of `optimize` or `run_get` tells of it.
  """
  @spec learn(Bridge.t(), map(), map()) :: :ok
  def learn(bridge, args, result) do
    result = if is_map(result["result"]), do: result["result"], else: result
    kept? = to_string(get(args, :keep) || "replace") == "replace"

    with true <- kept?,
         %{"optimized_program" => %{} = program} <- result do
      try do
        GenServer.call(Bridge.part(bridge, :owner), {:learn, Secret.wrap(program)})
      catch
        # The bridge is stopping: nobody will send the specs again.
        :exit, _reason -> :ok
      end
    end

    :ok
  end

  @doc "Puts learned state into the kept specs; only for the owner of the port."
  @spec commit_learned(Bridge.t(), Secret.t()) :: :ok
  def commit_learned(bridge, secret) do
    %{"id" => id} = program = Secret.unwrap(secret)

    case program do
      %{"program" => %{} = whole} -> commit(bridge, "create_program", whole, nil)
      _ -> :ok
    end

    for {module_id, learned} <- program["modules"] || %{} do
      state = Map.take(learned, ["instructions", "demos", "predictors"])

      with :error <- teach(bridge, {"module", module_id}, &put_state(&1, state)),
           do: teach(bridge, {"program", to_string(id)}, &put_state_within(&1, module_id, state))
    end

    :ok
  end

  defp teach(bridge, key, change) do
    with {:ok, [{command, args, tenant}]} <- read(bridge, key),
         do: put(bridge, key, [{command, change.(args), tenant}])
  end

  defp put_state(spec, state), do: spec |> texted() |> Map.put("state", state)

  defp put_state_within(program, module_id, state) do
    program = texted(program)

    modules =
      for module <- program["modules"] || [] do
        if is_map(module) and to_string(get(module, :id)) == module_id and get(module, :type),
          do: put_state(module, state),
          else: module
      end

    Map.put(program, "modules", modules)
  end

  @doc "The requests that create a spec again."
  @spec fetch(Bridge.t(), String.t(), term()) :: {:ok, [{String.t(), map()}]} | :error
  def fetch(bridge, kind, id) do
    with {:ok, requests} <- read(bridge, {to_string(kind), to_string(id)}),
         do: {:ok, for({command, args, _tenant} <- requests, do: {command, args})}
  end

  @doc """
  Sends everything to a fresh daemon: the bridge's option `:configure` first.

  Specs may need each other in either direction, so what is refused as `not_found` is sent again
  for as long as that helps.

  Returns what was refused all the same, as `{key, error}`.
  """
  @spec restore(Bridge.t(), Link.t(), Secret.t()) :: [{term(), DSPyBridge.Error.t()}]
  def restore(bridge, link, options) do
    first = first(bridge, Secret.unwrap(options)[:configure])

    rows =
      for {key, _position, secret} <- List.keysort(:ets.tab2list(bridge.specs), 1),
          do: {key, Secret.unwrap(secret)}

    # How it is configured comes first: modules name LMs.
    {configs, specs} = Enum.split_with(rows, &match?({{:configure, _}, _}, &1))
    send_rows(bridge, link, first ++ configs) ++ send_until_settled(bridge, link, specs)
  end

  defp first(_bridge, nil), do: []
  defp first(bridge, {module, function, args}), do: first(bridge, apply(module, function, args))
  defp first(bridge, function) when is_function(function), do: first(bridge, function.())

  defp first(bridge, args) do
    {args, []} = Callbacks.extract(bridge, "configure", Map.new(args))
    if args == %{}, do: [], else: [{:start, [{"configure", args, nil}]}]
  end

  defp send_until_settled(bridge, link, rows) do
    failed = send_rows(bridge, link, rows)
    again = for {key, error} <- failed, error.code in [:not_found, :invalid_args], do: key

    if again != [] and length(failed) < length(rows) do
      settled = for {key, _} = failure <- failed, key not in again, do: failure
      settled ++ send_until_settled(bridge, link, Enum.filter(rows, &(elem(&1, 0) in again)))
    else
      failed
    end
  end

  defp send_rows(bridge, link, rows) do
    for {key, requests} <- rows,
        error = Enum.find_value(requests, &refusal(bridge, link, &1)),
        do: {key, error}
  end

  defp refusal(bridge, link, {command, args, tenant}) do
    call = %Call{
      bridge: bridge,
      command: command,
      args: args,
      envelope: [tenant: tenant],
      timeout: :infinity,
      keep: false
    }

    case Exchange.run(call, link, :infinity) do
      {:ok, _result} -> nil
      {:error, error} -> error
    end
  end

  defp read(bridge, key) do
    case :ets.lookup(bridge.specs, key) do
      [{_key, _position, secret}] -> {:ok, Secret.unwrap(secret)}
      [] -> :error
    end
  end

  defp put(bridge, key, requests) do
    position =
      case :ets.lookup(bridge.specs, key) do
        [{_key, position, _secret}] -> position
        [] -> System.unique_integer([:monotonic])
      end

    :ets.insert(bridge.specs, {key, position, Secret.wrap(requests)})
    :ok
  end

  defp key(kind, args), do: {kind, to_string(get(args, :id))}

  @doc false
  def get(map, key), do: Map.get(map, key) || Map.get(map, Atom.to_string(key))

  defp texted(map), do: Map.new(map, fn {key, value} -> {to_string(key), value} end)
end
