defmodule DSPyBridge.Codec do
  @moduledoc """
  How a message is written into a frame, and which library does it.

  The daemon reads and writes JSON and MessagePack, and tells one from the other by the first byte
  of a frame. The client brings a MessagePack codec of its own, so it needs no library:

  | `:codec` | Module | Needs |
  | --- | --- | --- |
  | `:msgpack` | `DSPyBridge.Codec.MessagePack` | nothing; used unless you choose another |
  | `:msgpax` | `DSPyBridge.Codec.Msgpax` | `{:msgpax, "~> 2.4"}` |
  | `:jiffy` | `DSPyBridge.Codec.Jiffy` | `{:jiffy, "~> 1.1"}` |
  | `:json` | `DSPyBridge.Codec.JSON` | Elixir 1.18 |
  | `:otp_json` | `DSPyBridge.Codec.OTPJSON` | OTP 27 |
  | `:jason` | `DSPyBridge.Codec.Jason` | `{:jason, "~> 1.4"}` |

  `:auto` takes the first of this table that is loaded. A module of yours that implements this
  behaviour can be given, too.

  ## What values become

  Codecs of JSON libraries are given plain values (`DSPyBridge.Codec.Plain` makes them), so that
  every codec writes the same:

    * strings, numbers, booleans, `nil`, lists and maps are themselves; keys become strings
    * other atoms become strings
    * dates and times become ISO 8601 strings, a `MapSet` a list, other structs that implement
      `String.Chars` (`Decimal`, `URI`) strings
    * a binary that is no UTF-8 is bytes: `bin` in MessagePack, base64 in JSON
    * `DSPyBridge.Secret` is written as what it hides
    * tuples, functions, pids and other structs are refused, with their path

  What comes back has string keys: nothing that came over the wire is ever made into an atom.
  """

  alias DSPyBridge.Error

  @typedoc "A name of the table above, `:auto`, or a module that implements this behaviour."
  @type choice :: :auto | :msgpack | :msgpax | :jiffy | :json | :otp_json | :jason | module()

  @doc "Whether the library is there."
  @callback available?() :: boolean()

  @doc "What to add to the application when it is not."
  @callback needs() :: String.t()

  @doc "The frame of a map; throws `{:unencodable, path, text}` for what has no form on the wire."
  @callback encode!(map()) :: iodata()

  @doc "The map in a frame, with string keys; may raise."
  @callback decode!(binary()) :: map()

  @named [
    msgpack: DSPyBridge.Codec.MessagePack,
    msgpax: DSPyBridge.Codec.Msgpax,
    jiffy: DSPyBridge.Codec.Jiffy,
    json: DSPyBridge.Codec.JSON,
    otp_json: DSPyBridge.Codec.OTPJSON,
    jason: DSPyBridge.Codec.Jason
  ]

  @doc "The names of the table above."
  @spec names() :: [atom()]
  def names, do: [:auto | Keyword.keys(@named)]

  @doc """
  The module of a choice.

      iex> DSPyBridge.Codec.choose(:auto)
      {:ok, DSPyBridge.Codec.MessagePack}

      iex> DSPyBridge.Codec.choose(NoSuchCodec)
      {:error, "NoSuchCodec is no codec: it does not implement DSPyBridge.Codec"}

  """
  @spec choose(choice()) :: {:ok, module()} | {:error, String.t()}
  def choose(:auto) do
    {_name, codec} = Enum.find(@named, fn {_name, codec} -> codec.available?() end)
    {:ok, codec}
  end

  def choose(choice) do
    codec = Keyword.get(@named, choice, choice)

    cond do
      not (Code.ensure_loaded?(codec) and function_exported?(codec, :encode!, 1)) ->
        {:error, "#{inspect(codec)} is no codec: it does not implement DSPyBridge.Codec"}

      not codec.available?() ->
        {:error, "the codec #{inspect(choice)} needs #{codec.needs()}"}

      true ->
        {:ok, codec}
    end
  end

  @doc """
  Writes a map, or says what in it cannot be written.

      iex> {:error, error} = DSPyBridge.Codec.encode(DSPyBridge.Codec.MessagePack, %{args: %{at: {1, 2}}})
      iex> {error.code, error.message}
      {:invalid_args, "args.at: the tuple {1, 2} has no form on the wire; send a list or a map"}

  """
  @spec encode(module(), map()) :: {:ok, iodata()} | {:error, Error.t()}
  def encode(codec, message) do
    {:ok, codec.encode!(message)}
  catch
    :throw, {:unencodable, path, text} ->
      path = Enum.join(path, ".")
      faults = %{"faults" => [%{"path" => path, "message" => text}]}
      {:error, Error.new(:invalid_args, "#{path}: #{text}", details: faults)}
  end

  @doc """
  Reads a frame of the daemon, in whichever of the two formats it is.

  MessagePack and JSON need not be the codec that was chosen: the built-in one reads the first.
  """
  @spec decode(module(), binary()) :: {:ok, map()} | {:error, Error.t()}
  def decode(codec, frame) do
    case codec.decode!(frame) do
      %{} = map -> {:ok, map}
      other -> {:error, Error.new(:invalid_frame, "not a map: #{inspect(other, limit: 5)}")}
    end
  rescue
    error -> {:error, Error.new(:invalid_frame, Exception.message(error))}
  catch
    kind, reason -> {:error, Error.new(:invalid_frame, Exception.format_banner(kind, reason))}
  end
end
