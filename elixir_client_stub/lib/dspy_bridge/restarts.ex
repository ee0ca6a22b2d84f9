defmodule DSPyBridge.Restarts do
  @moduledoc false
  # When a daemon that ended is started again, and when it has ended too often.
  #
  # Pure: the time is an argument, in milliseconds.

  @enforce_keys [:backoff, :max_failures, :window]
  defstruct [:backoff, :max_failures, :window, pause: 0, ends: []]

  @type t :: %__MODULE__{}

  @doc """
  The restarts of a bridge with these options.

      iex> alias DSPyBridge.Restarts
      iex> restarts = Restarts.new(backoff: {100, 250}, max_failures: 3, failure_window: 60_000)
      iex> {100, restarts} = Restarts.ended(restarts, "exit status 70", 0)
      iex> {200, restarts} = Restarts.ended(restarts, "exit status 70", 100)
      iex> {250, restarts} = Restarts.ended(restarts, "exit status 70", 300)
      iex> {Restarts.failing?(restarts), Restarts.count(restarts)}
      {true, 3}
      iex> restarts = Restarts.up(restarts)
      iex> {100, restarts} = Restarts.ended(restarts, "exit status 137", 70_000)
      iex> Restarts.failing?(restarts)
      false

  """
  @spec new(keyword()) :: t()
  def new(options) do
    %__MODULE__{
      backoff: options[:backoff],
      max_failures: options[:max_failures],
      window: options[:failure_window]
    }
  end

  @doc "The daemon ended; gives the pause before it is started again."
  @spec ended(t(), String.t(), integer()) :: {pos_integer(), t()}
  def ended(%__MODULE__{backoff: {first, longest}} = restarts, reason, now) do
    pause = if restarts.pause == 0, do: first, else: min(2 * restarts.pause, longest)
    recent = Enum.filter(restarts.ends, fn {time, _reason} -> time > now - restarts.window end)
    # More than decide it need not be remembered.
    ends = Enum.take([{now, reason} | recent], restarts.max_failures)
    {pause, %{restarts | pause: pause, ends: ends}}
  end

  @doc "The daemon is up: the next end is the first of its kind."
  @spec up(t()) :: t()
  def up(%__MODULE__{} = restarts), do: %{restarts | pause: 0}

  @doc "Whether it ended as often, within the window, as is too often."
  @spec failing?(t()) :: boolean()
  def failing?(%__MODULE__{} = restarts), do: count(restarts) >= restarts.max_failures

  @doc "How often it ended within the window, at most the number that is too often."
  @spec count(t()) :: non_neg_integer()
  def count(%__MODULE__{ends: ends}), do: length(ends)

  @doc "Why it ended last."
  @spec reason(t()) :: String.t() | nil
  def reason(%__MODULE__{ends: ends}),
    do: with([{_time, reason} | _] <- ends, do: reason, else: (_ -> nil))
end
