defmodule DSPyAsh.Core.Trace do
  @moduledoc "One call of an LM by a module, as the daemon tells it when it is asked for traces."

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.Core,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy]

    create :create do
      primary? true

      accept [
        :program_id,
        :module_id,
        :model,
        :inputs,
        :outputs,
        :prompt,
        :response,
        :error,
        :usage,
        :cost,
        :latency_ms,
        :called_at
      ]
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    uuid_primary_key :id

    attribute :tenant, :string, allow_nil?: false
    attribute :model, :string, public?: true
    attribute :inputs, :map, public?: true
    attribute :outputs, :map, public?: true
    attribute :prompt, {:array, :map}, public?: true
    attribute :response, :string, public?: true
    attribute :error, :string, public?: true
    attribute :usage, :map, default: %{}, public?: true
    attribute :cost, :float, public?: true
    attribute :latency_ms, :float, public?: true
    attribute :called_at, :utc_datetime_usec, public?: true

    timestamps()
  end

  relationships do
    belongs_to :module, DSPyAsh.Core.Module, public?: true
    belongs_to :program, DSPyAsh.Core.Program, public?: true
  end

  @doc "The attributes of a row of the daemon's trace."
  def from_wire(%{} = row, program_id) do
    %{
      program_id: program_id,
      module_id: row["module_id"],
      model: row["model"],
      inputs: row["inputs"],
      outputs: row["outputs"],
      prompt: row["prompt"],
      response: row["response"],
      error: row["error"] && inspect(row["error"]),
      usage: row["usage"],
      cost: row["cost"],
      latency_ms: row["latency_ms"],
      called_at: called_at(row["started_at"])
    }
  end

  defp called_at(seconds) when is_number(seconds),
    do: DateTime.from_unix!(round(seconds * 1_000_000), :microsecond)

  defp called_at(_none), do: nil
end
