defmodule Mix.Tasks.DspyBridge.Setup do
  @shortdoc "Tells which Python runs the daemon, and how to install it"

  @moduledoc """
  Tells which Python `DSPyBridge` would start the daemon with, whether that works, and what to run
  to install it.

      mix dspy_bridge.setup
      mix dspy_bridge.setup --python /srv/dspy-bridge/.venv/bin/python

  It changes nothing: a virtual environment belongs where it will run, and not into a build.
  """

  use Mix.Task

  @start 60_000

  @impl true
  def run(argv) do
    {options, [], []} = OptionParser.parse(argv, strict: [python: :string])
    Mix.Task.run("app.config")
    {:ok, _} = Application.ensure_all_started(:dspy_bridge)
    shell = Mix.shell()

    case DSPyBridge.Daemon.find(DSPyBridge.Options.validate!(options)) do
      {:ok, {program, args}} ->
        shell.info("found    #{Enum.join([program | args], " ")}")
        try_it(shell, options)

      {:error, text} ->
        shell.info("missing  " <> text)
        shell.info(how())
    end
  end

  defp try_it(shell, options) do
    {:ok, bridge} = DSPyBridge.start_link([max_failures: 1] ++ options)

    case DSPyBridge.info(bridge, @start) do
      {:ok, %{"server" => server, "dspy" => dspy, "optimizers" => optimizers}} ->
        shell.info(
          "works    #{server["name"]} #{server["version"]}, Python #{server["python"]}, DSPy #{dspy["version"]}"
        )

        for %{"available" => false, "name" => name, "install" => install} <- optimizers,
            install do
          shell.info("without  #{name}: #{install}")
        end

      {:error, error} ->
        shell.error("fails    " <> Exception.message(error))
        shell.info(how())
    end

    DSPyBridge.stop(bridge)
  end

  defp how do
    """

    Python 3.11 or newer, and the repository of dspy-bridge:

        python3 -m venv /srv/dspy-bridge/.venv
        /srv/dspy-bridge/.venv/bin/pip install -r requirements/runtime.lock
        /srv/dspy-bridge/.venv/bin/pip install --no-deps .

    and then one of

        {DSPyBridge, name: MyApp.DSPy, python: "/srv/dspy-bridge/.venv/bin/python"}
        config :dspy_bridge, python: "/srv/dspy-bridge/.venv/bin/python"
        export DSPY_BRIDGE_PYTHON=/srv/dspy-bridge/.venv/bin/python
    """
  end
end
