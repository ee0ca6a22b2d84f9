defmodule DSPyBridge.Daemon do
  @moduledoc false
  # The daemon as a process of the operating system: where its program is, its port, its end.

  # The owner of a port is suspended while the port is busy, and it is busy above the second of
  # these. Erlang's own limits, 4 and 8 KB, would hold up everybody for as long as Python does not
  # read.
  @busy_limits {4 * 1024 * 1024, 8 * 1024 * 1024}

  @doc "The program and its arguments, looked for now and not when this was compiled."
  @spec find(keyword()) :: {:ok, {String.t(), [String.t()]}} | {:error, String.t()}
  def find(options) do
    candidates = [
      fn -> fake(options[:fake]) end,
      fn -> command(options[:command]) end,
      fn -> python(options[:python], "the option :python") end,
      fn -> python(System.get_env("DSPY_BRIDGE_PYTHON"), "DSPY_BRIDGE_PYTHON") end,
      fn ->
        python(Application.get_env(:dspy_bridge, :python), "config :dspy_bridge, :python")
      end,
      fn -> in_priv() end,
      fn -> in_path() end
    ]

    Enum.find_value(candidates, {:error, nowhere()}, & &1.())
  end

  defp fake(nil), do: nil

  # It has no program: all that can be said now is whether it runs.
  defp fake(name) do
    if GenServer.whereis(name),
      do: {:ok, {"", []}},
      else: {:error, "the option :fake names #{inspect(name)}, which does not run"}
  end

  defp command(nil), do: nil
  defp command(program) when is_binary(program), do: command([program])

  defp command([program | args]) do
    case executable(program) do
      nil -> {:error, "the option :command names #{program}, which is no program"}
      found -> {:ok, {found, args}}
    end
  end

  defp python(nil, _whose), do: nil

  defp python(program, whose) do
    case executable(program) do
      nil -> {:error, "#{whose} names #{program}, which is no program"}
      found -> {:ok, {found, ["-m", "bridge"]}}
    end
  end

  defp in_priv do
    with dir when is_list(dir) <- :code.priv_dir(:dspy_bridge),
         found when found != nil <- executable(Path.join(dir, "python/bin/python")) do
      {:ok, {found, ["-m", "bridge"]}}
    else
      _ -> nil
    end
  end

  defp in_path do
    if found = System.find_executable("dspy-bridge"), do: {:ok, {found, []}}
  end

  # A path is made absolute but not resolved: the link in a virtual environment is what makes it one.
  defp executable(program) do
    if String.contains?(program, "/"),
      do: program |> Path.expand() |> System.find_executable(),
      else: System.find_executable(program)
  end

  defp nowhere do
    "no Python with dspy-bridge was found: give the option :python or :command, or set " <>
      "DSPY_BRIDGE_PYTHON; `mix dspy_bridge.setup` tells how to install it"
  end

  @typedoc "A port, or the process that stands for one: see `DSPyBridge.FakeDaemon`."
  @type connection :: port() | pid()

  @doc "Starts the daemon behind a port, which the calling process owns."
  @spec open(keyword()) :: {:ok, connection()} | {:error, String.t()}
  def open(options) do
    if fake = options[:fake], do: DSPyBridge.FakeDaemon.open(fake), else: open_port(options)
  end

  defp open_port(options) do
    with {:ok, {program, args}} <- find(options) do
      settings = [
        :binary,
        :exit_status,
        :use_stdio,
        :hide,
        packet: 4,
        busy_limits_port: @busy_limits,
        args: args ++ flags(options),
        env: env(options[:env])
      ]

      settings = if dir = options[:cd], do: [{:cd, dir} | settings], else: settings
      {:ok, Port.open({:spawn_executable, program}, settings)}
    end
  rescue
    error in [ErlangError, ArgumentError] ->
      {:error, "the daemon could not be started: #{Exception.message(error)}"}
  end

  defp flags(options) do
    state_dir = if dir = options[:state_dir], do: ["--state-dir", dir], else: []
    ["--log-level", to_string(options[:log_level])] ++ state_dir ++ options[:args]
  end

  defp env(env) do
    for {name, value} <- env,
        do: {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
  end

  @doc "The daemon's pid, while its port is open."
  @spec pid(connection()) :: non_neg_integer() | pid() | nil
  def pid(fake) when is_pid(fake), do: fake

  def pid(port) do
    case Port.info(port, :os_pid) do
      {:os_pid, pid} -> pid
      nil -> nil
    end
  end

  @doc "Writes a frame; `false` while the daemon does not read. Raises when it has ended."
  @spec write(connection(), iodata()) :: boolean()
  def write(port, frame) when is_port(port), do: Port.command(port, frame, [:nosuspend])

  def write(fake, frame) do
    unless Process.alive?(fake), do: raise(ArgumentError, "the daemon has ended")
    send(fake, {self(), {:command, frame}})
    true
  end

  @doc "Kills the daemon; what it started dies with it."
  @spec kill(non_neg_integer() | pid() | nil) :: :ok
  def kill(nil), do: :ok

  def kill(fake) when is_pid(fake) do
    Process.exit(fake, :kill)
    :ok
  end

  def kill(pid) do
    System.cmd("kill", ["-KILL", Integer.to_string(pid)], stderr_to_stdout: true)
    :ok
  end
end
