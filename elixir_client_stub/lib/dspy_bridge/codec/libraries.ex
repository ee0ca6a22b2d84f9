# The adapters of the libraries: each is five lines, because `DSPyBridge.Codec.Plain` has the rules.
# The libraries are looked for when the application runs, so none of them is a dependency.

defmodule DSPyBridge.Codec.Msgpax do
  @moduledoc "MessagePack by the library [Msgpax](https://hex.pm/packages/msgpax)."
  @behaviour DSPyBridge.Codec
  @compile {:no_warn_undefined, [Msgpax, Msgpax.Bin]}

  alias DSPyBridge.Codec.{MessagePack, Plain}

  @impl true
  def available?, do: Code.ensure_loaded?(Msgpax)

  @impl true
  def needs, do: ~s(the library Msgpax: add {:msgpax, "~> 2.4"} to the dependencies)

  # `apply/3`: what is not loaded can have no struct literal.
  @impl true
  def encode!(map), do: apply(Msgpax, :pack!, [Plain.msgpack(map, &Msgpax.Bin.new/1)])

  @impl true
  def decode!(frame), do: MessagePack.decode!(frame)
end

defmodule DSPyBridge.Codec.Jiffy do
  @moduledoc "JSON by the library [jiffy](https://hex.pm/packages/jiffy)."
  @behaviour DSPyBridge.Codec
  @compile {:no_warn_undefined, :jiffy}

  alias DSPyBridge.Codec.Plain

  @impl true
  def available?, do: Code.ensure_loaded?(:jiffy)

  @impl true
  def needs, do: ~s(the library jiffy: add {:jiffy, "~> 1.1"} to the dependencies)

  @impl true
  def encode!(map), do: :jiffy.encode(Plain.json(map), [:use_nil])

  @impl true
  def decode!(frame), do: :jiffy.decode(frame, [:return_maps, :use_nil, :copy_strings])
end

defmodule DSPyBridge.Codec.JSON do
  @moduledoc "JSON by Elixir's own `JSON` module, which is there since 1.18."
  @behaviour DSPyBridge.Codec
  @compile {:no_warn_undefined, JSON}

  alias DSPyBridge.Codec.Plain

  @impl true
  def available?, do: Code.ensure_loaded?(JSON)

  @impl true
  def needs, do: "Elixir 1.18"

  @impl true
  def encode!(map), do: JSON.encode_to_iodata!(Plain.json(map))

  @impl true
  def decode!(frame), do: JSON.decode!(frame)
end

defmodule DSPyBridge.Codec.OTPJSON do
  @moduledoc "JSON by Erlang's own `:json` module, which is there since OTP 27."
  @behaviour DSPyBridge.Codec
  @compile {:no_warn_undefined, :json}

  alias DSPyBridge.Codec.Plain

  @impl true
  def available?, do: Code.ensure_loaded?(:json)

  @impl true
  def needs, do: "OTP 27"

  @impl true
  def encode!(map), do: :json.encode(Plain.json(map), &encode_value/2)

  # Erlang's null is not Elixir's.
  defp encode_value(nil, _encode), do: "null"
  defp encode_value(other, encode), do: :json.encode_value(other, encode)

  @impl true
  def decode!(frame) do
    {map, :ok, ""} = :json.decode(frame, :ok, %{null: nil})
    map
  end
end

defmodule DSPyBridge.Codec.Jason do
  @moduledoc "JSON by the library [Jason](https://hex.pm/packages/jason)."
  @behaviour DSPyBridge.Codec
  @compile {:no_warn_undefined, Jason}

  alias DSPyBridge.Codec.Plain

  @impl true
  def available?, do: Code.ensure_loaded?(Jason)

  @impl true
  def needs, do: ~s(the library Jason: add {:jason, "~> 1.4"} to the dependencies)

  @impl true
  def encode!(map), do: Jason.encode_to_iodata!(Plain.json(map))

  @impl true
  def decode!(frame), do: Jason.decode!(frame)
end
