defmodule DSPyBridge.Test.SeedBridge do
  @moduledoc """
  The GenServer of the document that this project began with, retyped: its `Jason` is another codec
  of JSON, its script the daemon, and `Logger.warn`, which newer Elixirs lack, `Logger.warning`.

  It speaks version 1 of the protocol, which is its wire.
  """

  use GenServer
  require Logger

  alias DSPyBridge.Test.SeedBridge.Jason

  defstruct [:port, :requests, :request_id]

  def start_link(opts \\ []) do
    GenServer.start_link(__MODULE__, opts, name: __MODULE__)
  end

  def init(_opts) do
    port =
      Port.open({:spawn_executable, python_path()}, [
        {:args, ["-m", "bridge"]},
        {:packet, 4},
        :binary,
        :exit_status
      ])

    {:ok,
     %__MODULE__{
       port: port,
       requests: %{},
       request_id: 0
     }}
  end

  def call(command, args, timeout \\ 30_000) do
    GenServer.call(__MODULE__, {:call, command, args}, timeout)
  end

  def handle_call({:call, command, args}, from, state) do
    request_id = state.request_id + 1

    request = %{
      id: request_id,
      command: to_string(command),
      args: args
    }

    # Send to Python
    send(state.port, {self(), {:command, Jason.encode!(request)}})

    # Store request
    new_requests = Map.put(state.requests, request_id, from)

    {:noreply, %{state | requests: new_requests, request_id: request_id}}
  end

  def handle_info({port, {:data, data}}, %{port: port} = state) do
    case Jason.decode(data) do
      {:ok, %{"id" => id, "result" => result}} ->
        # Success response
        case Map.pop(state.requests, id) do
          {nil, requests} ->
            Logger.warning("Received response for unknown request: #{id}")
            {:noreply, %{state | requests: requests}}

          {from, requests} ->
            GenServer.reply(from, {:ok, atomize_keys(result)})
            {:noreply, %{state | requests: requests}}
        end

      {:ok, %{"id" => id, "error" => error}} ->
        # Error response
        case Map.pop(state.requests, id) do
          {nil, requests} ->
            Logger.warning("Received error for unknown request: #{id}")
            {:noreply, %{state | requests: requests}}

          {from, requests} ->
            GenServer.reply(from, {:error, error})
            {:noreply, %{state | requests: requests}}
        end

      {:error, reason} ->
        Logger.error("Failed to decode Python response: #{inspect(reason)}")
        {:noreply, state}
    end
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    Logger.error("Python process exited with status: #{status}")
    {:stop, :python_process_died, state}
  end

  defp python_path do
    {:ok, python} = DSPyBridge.Test.Daemon.python()
    python
  end

  defp atomize_keys(map) when is_map(map) do
    Map.new(map, fn {k, v} ->
      {String.to_atom(k), atomize_keys(v)}
    end)
  end

  defp atomize_keys(list) when is_list(list) do
    Enum.map(list, &atomize_keys/1)
  end

  defp atomize_keys(value), do: value
end

defmodule DSPyBridge.Test.SeedBridge.Jason do
  @moduledoc "What stands for Jason: the only change."

  alias DSPyBridge.Codec

  def encode!(map), do: map |> codec().encode!() |> IO.iodata_to_binary()
  def decode(data), do: Codec.decode(codec(), data)

  defp codec, do: Enum.find([Codec.Jiffy, Codec.JSON, Codec.OTPJSON], & &1.available?())
end
