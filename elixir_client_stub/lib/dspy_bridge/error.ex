defmodule DSPyBridge.Error do
  @daemon [
    invalid_frame: "the frame is neither a JSON object nor a MessagePack map",
    frame_too_large: "the message is over the largest frame; `details` has no part of it",
    invalid_message: "the map is no message of the protocol",
    unknown_command: "no command has this name",
    invalid_args: "`details[\"faults\"]` lists every fault as `path` and `message`",
    duplicate_id: "a request with this id is in flight",
    not_found: "no such module, program, LM, dataset, run or request",
    busy: "the daemon is at its bounds: repeat later",
    cancelled: "the request was cancelled",
    deadline_exceeded: "its `deadline_ms` ran out",
    budget_exceeded: "its `budget` ran out",
    not_configured: "the call needs an LM and none is configured",
    missing_extra: "`details[\"install\"]` is the command that installs what is missing",
    unsupported: "the daemon knows what was asked for and cannot do it",
    lm_auth: "the LM's server refused the key",
    lm_rate_limited: "the LM's server asks us to slow down",
    lm_timeout: "the LM did not answer in time",
    lm_transport: "the connection to the LM failed",
    lm_refused: "the LM's server rejected the request",
    lm_context_window: "the prompt is too long for the model",
    lm_error: "the LM failed in another way",
    adapter_parse: "the LM's text, `details[\"response\"]`, does not hold the output fields",
    program_error: "a program is wrong, or failed",
    sandbox_limit: "given source used more than it may",
    metric_error: "a metric failed; `details[\"index\"]` is the example's",
    host_error: "a callback of yours failed or was never answered",
    worker_died: "the daemon, or the process of a run, died",
    internal: "a fault of the daemon; its log has the traceback"
  ]
  @client [
    timeout: "no answer within `:timeout`; the request was cancelled",
    not_running: "no bridge has this name, or it is stopping",
    unknown_code: "the daemon sent a code that this client does not know: `code_text` has it"
  ]

  @moduledoc """
  What went wrong with a call.

  Programs match `code`, which is one of a closed list of atoms; `message` is for the person who
  made the mistake and may change. `retriable` says whether the same call may succeed later, and
  `retry_after_ms` when, if that is known. `details` is a map with string keys.

      case DSPyBridge.forward(MyApp.DSPy, "triage", %{message: text}) do
        {:ok, %{"topic" => topic}} -> topic
        {:error, %DSPyBridge.Error{code: :lm_rate_limited, retry_after_ms: wait}} -> {:snooze, wait}
        {:error, %DSPyBridge.Error{retriable: true}} -> :retry
        {:error, error} -> raise error
      end

  ## Codes of the daemon

  They are a contract and never change their meaning.

  #{Enum.map_join(@daemon, "\n", fn {code, text} -> "  * `:#{code}` - #{text}" end)}

  ## Codes of the client

  #{Enum.map_join(@client, "\n", fn {code, text} -> "  * `:#{code}` - #{text}" end)}
  """

  @daemon_codes Keyword.keys(@daemon)
  @client_codes Keyword.keys(@client)
  @retriable ~w(busy lm_rate_limited lm_timeout lm_transport worker_died)a
  @by_text Map.new(@daemon_codes, &{Atom.to_string(&1), &1})

  @typedoc "A code; the lists above say what each means."
  @type code ::
          unquote(Enum.reduce(Enum.reverse(@daemon_codes ++ @client_codes), &{:|, [], [&1, &2]}))

  @type t :: %__MODULE__{
          code: code(),
          message: String.t(),
          retriable: boolean(),
          retry_after_ms: non_neg_integer() | nil,
          details: map(),
          code_text: String.t() | nil
        }

  @enforce_keys [:code, :message]
  defexception [:code, :message, :retry_after_ms, :code_text, retriable: false, details: %{}]

  @doc "Every code that a `DSPyBridge.Error` can have."
  @spec codes() :: [code()]
  def codes, do: @daemon_codes ++ @client_codes

  @doc """
  An error of the client's own making.

      iex> DSPyBridge.Error.new(:worker_died, "the daemon ended").retriable
      true

  """
  @spec new(code(), String.t(), keyword()) :: t()
  def new(code, message, more \\ []) when is_atom(code) do
    struct!(
      %__MODULE__{code: code, message: message, retriable: code in @retriable},
      more
    )
  end

  @doc """
  The error in what the daemon sent: a map in version 2, a string in version 1.

      iex> DSPyBridge.Error.from_wire(%{"code" => "busy", "message" => "later", "retriable" => true})
      %DSPyBridge.Error{code: :busy, message: "later", retriable: true}

      iex> DSPyBridge.Error.from_wire("not_found: no module 'x'").code
      :not_found

      iex> error = DSPyBridge.Error.from_wire(%{"code" => "out_of_cheese", "message" => "?"})
      iex> {error.code, error.code_text}
      {:unknown_code, "out_of_cheese"}

  """
  @spec from_wire(map() | String.t()) :: t()
  def from_wire(text) when is_binary(text) do
    case String.split(text, ": ", parts: 2) do
      [code, message] when is_map_key(@by_text, code) ->
        from_wire(%{"code" => code, "message" => message})

      _ ->
        %__MODULE__{code: :unknown_code, message: text}
    end
  end

  def from_wire(%{} = wire) do
    text = wire["code"]
    code = Map.get(@by_text, text, :unknown_code)

    %__MODULE__{
      code: code,
      message: to_string(wire["message"]),
      retriable: Map.get(wire, "retriable", code in @retriable) == true,
      retry_after_ms: wire["retry_after_ms"],
      details: wire["details"] || %{},
      code_text: if(code == :unknown_code, do: text)
    }
  end

  @doc false
  @spec to_wire(t()) :: map()
  def to_wire(%__MODULE__{} = error) do
    wire = Map.take(error, [:code, :message, :retriable, :details])
    wire = if error.code_text, do: %{wire | code: error.code_text}, else: wire

    if error.retry_after_ms,
      do: Map.put(wire, :retry_after_ms, error.retry_after_ms),
      else: wire
  end

  @impl true
  def message(%__MODULE__{code: :unknown_code, code_text: text, message: message})
      when is_binary(text),
      do: "#{text}: #{message}"

  def message(%__MODULE__{code: code, message: message}), do: "#{code}: #{message}"
end
