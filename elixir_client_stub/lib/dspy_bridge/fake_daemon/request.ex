defmodule DSPyBridge.FakeDaemon.Request do
  @moduledoc """
  A request while it is answered; the second argument of a stub's function.

  `args` are the command's arguments, `envelope` the other keys of the request (`"tenant"`,
  `"budget"`, `"stream"`, …), both with string keys.
  """

  @enforce_keys [:id, :command, :args, :envelope, :connection]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          id: DSPyBridge.Wire.id(),
          command: String.t(),
          args: map(),
          envelope: map(),
          connection: pid()
        }

  @doc false
  def say(%__MODULE__{connection: connection}, message) do
    send(connection, {:say, message})
    :ok
  end

  @doc false
  def call_host(%__MODULE__{} = request, target, name, args) do
    # Until the bridge answers: the request's own end kills whoever waits here.
    GenServer.call(request.connection, {:host, request.id, target, name, args}, :infinity)
  end
end
