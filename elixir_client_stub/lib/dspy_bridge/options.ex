defmodule DSPyBridge.Options do
  @moduledoc """
  The options of a bridge: one table that checks them, and that their documentation is made from.
  """

  alias DSPyBridge.{Callbacks, Codec, Secret}

  @table [
    name: {:name, nil, "a name to register the bridge under, as for a `GenServer`"},
    command:
      {:command, nil,
       "the daemon's program, or `[program | arguments]`; see *How Python is found* below"},
    fake:
      {:fake, nil, "a `DSPyBridge.FakeDaemon` in place of the daemon, for tests without Python"},
    python: {:string, nil, "a Python that has `dspy-bridge` installed; runs `python -m bridge`"},
    args: {:strings, [], "more arguments of the daemon, as `dspy-bridge --help` lists them"},
    env: {:env, %{}, "environment variables of the daemon, beside those of the BEAM"},
    cd: {:string, nil, "the daemon's working directory"},
    log_level:
      {{:one_of, [:debug, :info, :warning, :error]}, :warning,
       "least level of the daemon's log; its lines go to `Logger`"},
    state_dir: {:string, nil, "where the daemon keeps optimizer runs; see its README"},
    codec: {:codec, :auto, "how frames are written; see `DSPyBridge.Codec`"},
    configure:
      {:configure, nil,
       "arguments of `configure/3`, or a function or `{m, f, a}` that gives them, called at each start of the daemon"},
    tools: {{:callbacks, :tool}, %{}, "tools by name; the shapes are in `DSPyBridge.Callbacks`"},
    metrics: {{:callbacks, :metric}, %{}, "metrics by name"},
    rewards: {{:callbacks, :reward}, %{}, "rewards by name"},
    retrievers: {{:callbacks, :retriever}, %{}, "retrievers by name"},
    lms: {{:callbacks, :lm}, %{}, "LMs by model name, for `%{provider: \"host\", model: name}`"},
    forwards: {{:callbacks, :forward}, %{}, "programs' forward functions by program id"},
    grace: {:ms, 5_000, "milliseconds that requests have to finish when the bridge stops"},
    start_timeout: {:ms, 30_000, "milliseconds within which a daemon must say hello"},
    health_interval: {:ms, 10_000, "milliseconds between two looks whether the daemon answers"},
    health_timeout: {:ms, 30_000, "milliseconds without an answer after which it is killed"},
    backoff:
      {:backoff, {100, 10_000}, "`{first, longest}` pause before a new start, in milliseconds"},
    max_failures:
      {:count, 5,
       "ends of the daemon within `:failure_window` after which calls fail at once, and an error is logged, until a start succeeds"},
    failure_window: {:ms, 60_000, "milliseconds"}
  ]

  @doc false
  def docs do
    lines =
      for {name, {_type, default, text}} <- @table do
        shown = if default in [nil, [], %{}], do: "", else: " Default: `#{inspect(default)}`."
        "  * `:#{name}` - #{text}.#{shown}"
      end

    Enum.join(lines, "\n") <>
      """


      ## How Python is found

      The first of these that is there, looked for when the daemon starts:

        1. the option `:command`
        2. the option `:python`
        3. the environment variable `DSPY_BRIDGE_PYTHON`
        4. `config :dspy_bridge, python: "..."`
        5. `python/bin/python` in the `priv` directory of `:dspy_bridge`
        6. `dspy-bridge` in the `PATH`

      `mix dspy_bridge.setup` tells which it is, and how to install it.
      """
  end

  @doc """
  Checks options; gives them with defaults.

      iex> DSPyBridge.Options.validate!(pyhton: "/usr/bin/python3")
      ** (ArgumentError) unknown option :pyhton of DSPyBridge; did you mean :python?

  """
  @spec validate!(keyword() | Secret.t(keyword())) :: keyword()
  def validate!(options) do
    options = Secret.unwrap(options)

    unless Keyword.keyword?(options),
      do: raise(ArgumentError, "the options of DSPyBridge are a keyword list")

    known!(options, Keyword.keys(@table), "DSPyBridge")

    for {name, {type, default, _text}} <- @table do
      value = Keyword.get(options, name, default)
      # A value may hold a key: it is not shown.
      unless value == default or valid?(type, value),
        do: raise(ArgumentError, "the option #{inspect(name)} of DSPyBridge #{must(type)}")

      {name, value}
    end
  end

  @doc "Raises for an option that is not known, with the nearest that is."
  @spec known!(keyword(), [atom()], String.t()) :: :ok
  def known!(options, known, whose) do
    Enum.each(options, fn {name, _value} ->
      unless name in known do
        raise ArgumentError, "unknown option #{inspect(name)} of #{whose}" <> hint(name, known)
      end
    end)
  end

  @doc """
  "; did you mean ...?", or the list of what is known.

      iex> DSPyBridge.Options.hint("serach", ["search", "find"])
      "; did you mean \\"search\\"?"

  """
  @spec hint(term(), [term()]) :: String.t()
  def hint(name, known) do
    near = Enum.max_by(known, &likeness(&1, name), fn -> nil end)

    cond do
      known == [] -> "; there are none"
      likeness(near, name) > 0.75 -> "; did you mean #{inspect(near)}?"
      true -> "; known are #{Enum.map_join(Enum.sort(known), ", ", &inspect/1)}"
    end
  end

  defp likeness(one, other), do: String.jaro_distance(to_string(one), to_string(other))

  defp valid?(:name, name) when is_atom(name), do: true
  defp valid?(:name, {:global, _}), do: true
  defp valid?(:name, {:via, module, _}), do: is_atom(module)
  defp valid?(:fake, fake), do: is_pid(fake) or valid?(:name, fake)
  defp valid?(:command, [program | args]), do: valid?(:string, program) and valid?(:strings, args)
  defp valid?(:command, program), do: valid?(:string, program)
  defp valid?(:string, text), do: is_binary(text) and text != ""
  defp valid?(:strings, list), do: is_list(list) and Enum.all?(list, &is_binary/1)
  defp valid?({:one_of, values}, value), do: value in values
  defp valid?(:codec, codec), do: is_atom(codec)
  defp valid?(:ms, value), do: is_integer(value) and value > 0
  defp valid?(:count, value), do: is_integer(value) and value > 0
  defp valid?(:configure, %{}), do: true
  defp valid?(:configure, {m, f, a}), do: is_atom(m) and is_atom(f) and is_list(a)
  defp valid?(:configure, value), do: is_function(value, 0) or Keyword.keyword?(value)

  defp valid?(:backoff, {first, longest}),
    do: valid?(:ms, first) and valid?(:ms, longest) and first <= longest

  defp valid?(:env, env) when is_map(env) or is_list(env) do
    Enum.all?(env, fn
      {name, value} -> is_binary(name) and (is_binary(value) or value == nil)
      _ -> false
    end)
  end

  defp valid?({:callbacks, kind}, callbacks) when is_map(callbacks) or is_list(callbacks) do
    Enum.each(callbacks, fn {name, callback} -> Callbacks.check!(kind, name, callback) end)
    true
  end

  defp valid?(_type, _value), do: false

  defp must(:name), do: "must be an atom, {:global, term} or {:via, module, term}"
  defp must(:fake), do: "must be the pid or the name of a DSPyBridge.FakeDaemon"
  defp must(:command), do: "must be a program, or a list of a program and its arguments"
  defp must(:string), do: "must be a string that is not empty"
  defp must(:strings), do: "must be a list of strings"
  defp must({:one_of, values}), do: "must be one of #{inspect(values)}"
  defp must(:codec), do: "must be one of #{inspect(Codec.names())} or a module"
  defp must(:ms), do: "must be a number of milliseconds, at least 1"
  defp must(:count), do: "must be an integer, at least 1"
  defp must(:configure), do: "must be a map, or a function or {m, f, a} that gives one"
  defp must(:backoff), do: "must be {first, longest} in milliseconds"
  defp must(:env), do: "must be a map from strings to strings, or to nil for none"
  defp must({:callbacks, _kind}), do: "must be a map from names to functions or {m, f, a}"
end
