# What needs the daemon is tagged `:daemon`. The Python comes from DSPY_BRIDGE_PYTHON, or is that of
# the checkout; without one these tests are left out, unless somebody said where it should be.
alias DSPyBridge.Test.Daemon

excluded =
  case Daemon.python() do
    {:ok, _python} ->
      []

    {:error, text} ->
      if System.get_env("DSPY_BRIDGE_PYTHON"), do: raise(text)
      IO.puts("#{text}: the tests that need the daemon are left out")
      [:daemon]
  end

# What a checkout's daemon cannot do is not asked of it.
parts = [{"bridge/sandbox", {:busy, :sandbox}}, {"bridge/stream.py", {:streaming, true}}]

missing = for {path, tag} <- parts, not File.exists?(Path.join(Daemon.checkout(), path)), do: tag

# What crashes here on purpose would fill the screen; ExUnit shows it where a test fails.
ExUnit.start(
  exclude: excluded ++ missing,
  capture_log: true,
  # Bounds, not measures: the machine may be busy.
  timeout: 180_000,
  assert_receive_timeout: 5_000,
  max_cases: 4
)
