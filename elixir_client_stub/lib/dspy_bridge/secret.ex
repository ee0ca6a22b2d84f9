defmodule DSPyBridge.Secret do
  @moduledoc """
  A value that may hold a key, kept where `inspect/2` cannot see it.

  Specs carry API keys, and processes are inspected: in crash reports, by `:sys.get_status/1`, in
  the supervision reports of the application. The value stands in the environment of a function,
  which no printer shows.

      iex> secret = DSPyBridge.Secret.wrap(%{api_key: "sk-123"})
      iex> inspect(secret)
      "#DSPyBridge.Secret<...>"
      iex> DSPyBridge.Secret.unwrap(secret)
      %{api_key: "sk-123"}

  """

  @enforce_keys [:reveal]
  defstruct [:reveal]

  @opaque t :: %__MODULE__{reveal: (() -> term())}
  @type t(_value) :: t()

  @doc "Hides a value; what is hidden already stays as it is."
  @spec wrap(term()) :: t()
  def wrap(%__MODULE__{} = secret), do: secret
  def wrap(value), do: %__MODULE__{reveal: fn -> value end}

  @doc "Gives the value back; what is no secret is given back as it is."
  @spec unwrap(t() | term()) :: term()
  def unwrap(%__MODULE__{reveal: reveal}), do: reveal.()
  def unwrap(value), do: value

  defimpl Inspect do
    def inspect(_secret, _options), do: "#DSPyBridge.Secret<...>"
  end
end
