defmodule DSPyAsh.Error do
  @moduledoc """
  What the daemon answered, as an error of Ash.

  `code` is one of the closed list of `DSPyBridge.Error`. `retriable` says whether the same call may
  succeed later: a job may be snoozed by `retry_after_ms`.
  """

  use Splode.Error,
    fields: [:code, :text, :retriable, :retry_after_ms, details: %{}],
    class: :unknown

  # What the one who calls can put right; APIs show these in full.
  @invalid ~w(invalid_args not_found not_configured unsupported program_error metric_error)a

  @doc "From the client's error."
  def from_bridge(%DSPyBridge.Error{} = error) do
    found =
      exception(
        code: error.code,
        text: error.message,
        retriable: error.retriable,
        retry_after_ms: error.retry_after_ms,
        details: error.details
      )

    if error.code in @invalid, do: %{found | class: :invalid}, else: found
  end

  @impl true
  def message(%{code: code, text: text}), do: "#{code}: #{text}"
end
