defmodule DSPyBridge.Telemetry do
  @moduledoc """
  Events for [`:telemetry`](https://hex.pm/packages/telemetry), sent where it is loaded.

  | Event | Measurements | Metadata |
  | --- | --- | --- |
  | `[:dspy_bridge, :call, :start]` | `system_time`, `monotonic_time` | `bridge`, `command`, `id`, `tenant` |
  | `[:dspy_bridge, :call, :stop]` | `duration`, `lm_calls`, `input_tokens`, `output_tokens`, `cost` | the same, and `result`: `:ok` or the error's code |
  | `[:dspy_bridge, :call, :exception]` | `duration` | the same, and `kind`, `reason`, `stacktrace` |
  | `[:dspy_bridge, :host_call, :start]` | `system_time`, `monotonic_time` | `bridge`, `target`, `name`, `request` |
  | `[:dspy_bridge, :host_call, :stop]` | `duration` | the same, and `result`: `:ok` or `:error` |
  | `[:dspy_bridge, :daemon, :up]` | `duration` since its start | `bridge`, `os_pid`, `versions`, `restored`, `refused` |
  | `[:dspy_bridge, :daemon, :down]` | `count` of ends within `:failure_window` | `bridge`, `os_pid`, `reason` |

  Times are in native units. `id` is that of the module, program or run. Inputs and outputs are in
  no event. The measurements of usage are there when the reply tells of usage; `cost` is in US
  dollars, and missing where the price is not known.

      :telemetry.attach("slow-calls", [:dspy_bridge, :call, :stop], &MyApp.Metrics.handle/4, nil)

  """

  @compile {:no_warn_undefined, :telemetry}

  alias DSPyBridge.{Call, Specs}

  @doc false
  @spec call(Call.t(), (() -> result)) :: result when result: DSPyBridge.result()
  def call(%Call{} = call, fun) do
    if loaded?() do
      id = Enum.find_value([:module_id, :program_id, :id, :run_id], &Specs.get(call.args, &1))

      metadata = %{
        bridge: call.bridge.name,
        command: call.command,
        id: id,
        tenant: call.envelope[:tenant]
      }

      span([:dspy_bridge, :call], metadata, fun, &called/1)
    else
      fun.()
    end
  end

  defp called({:ok, result}), do: {usage(result), %{result: :ok}}
  defp called({:error, error}), do: {%{}, %{result: error.code}}

  defp usage(%{"_meta" => %{"usage" => usage}}) when is_map(usage) and map_size(usage) > 0 do
    rows = Map.values(usage)
    costs = for %{"cost" => cost} when is_number(cost) <- rows, do: cost

    totals = %{
      lm_calls: sum(rows, "calls"),
      input_tokens: sum(rows, "input_tokens"),
      output_tokens: sum(rows, "output_tokens")
    }

    if costs == [], do: totals, else: Map.put(totals, :cost, Enum.sum(costs))
  end

  defp usage(_result), do: %{}

  defp sum(rows, key), do: Enum.sum(for %{^key => count} when is_number(count) <- rows, do: count)

  @doc false
  @spec host_call(map(), (() -> result)) :: result when result: {:ok | :error, term()}
  def host_call(metadata, fun) do
    if loaded?(),
      do: span([:dspy_bridge, :host_call], metadata, fun, &{%{}, %{result: elem(&1, 0)}}),
      else: fun.()
  end

  @doc false
  def daemon_up(bridge, os_pid, info, duration, refused) do
    event([:daemon, :up], %{duration: duration}, %{
      bridge: bridge.name,
      os_pid: os_pid,
      versions: Map.take(info, ["server", "dspy"]),
      restored: :ets.info(bridge.specs, :size),
      refused: refused
    })
  end

  @doc false
  def daemon_down(bridge, os_pid, reason, count) do
    metadata = %{bridge: bridge.name, os_pid: os_pid, reason: reason}
    event([:daemon, :down], %{count: count}, metadata)
  end

  defp event(name, measurements, metadata) do
    if loaded?(), do: :telemetry.execute([:dspy_bridge | name], measurements, metadata)
    :ok
  end

  defp loaded?, do: :erlang.function_exported(:telemetry, :execute, 3)

  # As `:telemetry.span/3`, but with measurements of the result.
  defp span(prefix, metadata, fun, outcome) do
    start = System.monotonic_time()
    begun = %{system_time: System.system_time(), monotonic_time: start}
    :telemetry.execute(prefix ++ [:start], begun, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        more = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
        taken = %{duration: System.monotonic_time() - start}
        :telemetry.execute(prefix ++ [:exception], taken, Map.merge(metadata, more))
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        {measured, told} = outcome.(result)
        measured = Map.put(measured, :duration, System.monotonic_time() - start)
        :telemetry.execute(prefix ++ [:stop], measured, Map.merge(metadata, told))
        result
    end
  end
end
