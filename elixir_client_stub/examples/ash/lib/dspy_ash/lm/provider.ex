defmodule DSPyAsh.LM.Provider do
  @moduledoc """
  A language model of a tenant.

  No key is in the row. `key_env` names the environment variable that holds it; it is read when the
  daemon is configured and goes to the daemon's memory and nowhere else. With `type: :host` even
  that is not needed: the daemon asks this application, and the key stays on the BEAM.
  """

  use Ash.Resource,
    otp_app: :dspy_ash,
    domain: DSPyAsh.LM,
    data_layer: Ash.DataLayer.Ets

  actions do
    defaults [:read, :destroy]

    create :create do
      primary? true
      accept [:name, :type, :model, :key_env, :config, :is_default]
    end

    action :configure, :map do
      description "Makes the daemon know this LM, by its name, for the tenant."
      argument :id, :uuid, allow_nil?: false
      run DSPyAsh.LM.Actions.Configure
    end

    action :generate, :map do
      description "Asks an LM: %{text, finish_reason, model, usage, cost}."
      argument :prompt, :string, allow_nil?: false
      argument :provider, :string
      argument :options, :map, default: %{}

      run fn input, context ->
        DSPyAsh.Bridge.generate(
          input.arguments.prompt,
          input.arguments[:provider],
          input.arguments.options,
          context
        )
      end
    end

    action :usage, :map do
      description "The tenant's totals since the daemon started."
      run fn _input, context -> DSPyAsh.Bridge.usage(context) end
    end
  end

  multitenancy do
    strategy :attribute
    attribute :tenant
  end

  attributes do
    uuid_primary_key :id

    attribute :tenant, :string, allow_nil?: false
    attribute :name, :string, allow_nil?: false, public?: true

    attribute :type, :atom do
      constraints one_of: [:openai, :anthropic, :cohere, :local, :host, :embedded]
      allow_nil? false
      public? true
    end

    attribute :model, :string, allow_nil?: false, public?: true
    attribute :key_env, :string, public?: true
    attribute :config, :map, default: %{}, public?: true
    attribute :is_default, :boolean, default: false, public?: true

    timestamps()
  end

  identities do
    identity :unique_name, [:name], pre_check_with: DSPyAsh.LM
  end

  @doc "The LM as `configure` takes it; the key is read now, and is hidden from `inspect/2`."
  def to_wire(provider) do
    provider.config
    |> Map.new(fn {key, value} -> {to_string(key), value} end)
    |> Map.merge(%{"provider" => to_string(provider.type), "model" => provider.model})
    |> put_key(provider.key_env)
  end

  defp put_key(lm, nil), do: lm

  defp put_key(lm, name) do
    Map.put(lm, "api_key", DSPyBridge.Secret.wrap(System.fetch_env!(name)))
  end
end
