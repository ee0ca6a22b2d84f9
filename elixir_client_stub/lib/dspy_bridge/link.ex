defmodule DSPyBridge.Link do
  @moduledoc false
  # The connection to one daemon process. A restarted daemon is another link.

  @enforce_keys [:port, :owner, :codec, :max_frame, :epoch]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          port: DSPyBridge.Daemon.connection(),
          owner: pid(),
          codec: module(),
          max_frame: pos_integer(),
          epoch: pos_integer()
        }

  # Between two tries to write to a port that is busy: the time that a pipe takes to drain some.
  @busy_pause 2

  @doc """
  Writes a frame, from whichever process; waits, but not beyond `deadline`, while the daemon does
  not read.
  """
  @spec write(t(), iodata(), integer() | :infinity) :: :ok | :closed | :busy
  def write(%__MODULE__{port: port} = link, frame, deadline) do
    if DSPyBridge.Daemon.write(port, frame) do
      :ok
    else
      # Not suspended: a suspended process could not give up at its deadline.
      if DSPyBridge.Call.left(deadline) == 0 do
        :busy
      else
        Process.sleep(@busy_pause)
        write(link, frame, deadline)
      end
    end
  rescue
    ArgumentError -> :closed
  end
end
