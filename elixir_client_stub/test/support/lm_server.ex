defmodule DSPyBridge.Test.LMServer do
  @moduledoc """
  The LM server of the Python tests, as a process: `start_supervised!(DSPyBridge.Test.LMServer)`.

  What a model does is read from its name: `"slow-200"` waits 200 ms, `"stall"` never answers; see
  `tests/lm_server/behaviours.py`.
  """

  use GenServer

  alias DSPyBridge.Test.Daemon

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(nil) do
    {:ok, python} = Daemon.python()
    args = ["-m", "tests.lm_server", "--until-stdin-closes"]

    port =
      Port.open({:spawn_executable, python}, [
        :binary,
        :exit_status,
        line: 4096,
        args: args,
        cd: Daemon.checkout()
      ])

    receive do
      {^port, {:data, {:eol, line}}} -> {:ok, {port, json(line)["port"]}}
      {^port, {:exit_status, status}} -> {:stop, {:exit_status, status}}
    after
      60_000 -> {:stop, :no_answer}
    end
  end

  @impl true
  def handle_call(:base_url, _from, {_port, number} = state),
    do: {:reply, "http://127.0.0.1:#{number}", state}

  @impl true
  def handle_info(_message, state), do: {:noreply, state}

  @doc "An LM of the server."
  def lm(server, model, more \\ %{}) do
    Map.merge(
      %{
        provider: "openai",
        model: model,
        api_key: "sk-for-tests",
        base_url: base_url(server) <> "/v1",
        max_retries: 0
      },
      more
    )
  end

  @doc "All counts of the server, such as `closed_early`."
  def stats(server), do: control(server, "stats")

  @doc "The requests that it remembers."
  def requests(server), do: control(server, "requests")["requests"]

  defp control(server, name) do
    url = String.to_charlist("#{base_url(server)}/control/#{name}")

    {:ok, {{_, 200, _}, _headers, body}} =
      :httpc.request(:get, {url, []}, [], body_format: :binary)

    json(body)
  end

  defp base_url(server), do: GenServer.call(server, :base_url)

  @doc "Reads JSON with whichever codec of the client is there."
  def json(text) do
    codec =
      Enum.find(
        [DSPyBridge.Codec.Jiffy, DSPyBridge.Codec.JSON, DSPyBridge.Codec.OTPJSON],
        & &1.available?()
      )

    codec.decode!(text)
  end
end
