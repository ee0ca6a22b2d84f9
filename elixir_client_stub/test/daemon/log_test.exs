defmodule DSPyBridge.LogTest do
  @moduledoc "The daemon's log is Logger's."

  use DSPyBridge.Test.Daemon

  import ExUnit.CaptureLog

  test "a line of the daemon's log comes with its level, and what it is about" do
    test = self()

    log =
      capture_log([metadata: [:dspy_event, :dspy_bridge]], fn ->
        bridge =
          start_supervised!({DSPyBridge, options(name: LogTest.Bridge, log_level: :debug)},
            id: :logs
          )

        {:ok, link} =
          bridge |> DSPyBridge.Bridge.resolve() |> elem(1) |> DSPyBridge.Bridge.link(10_000)

        # An answer that nobody waits for is a line of level debug.
        {:ok, frame} =
          DSPyBridge.Codec.encode(link.codec, DSPyBridge.Wire.answer(4711, {:ok, nil}))

        :ok = DSPyBridge.Link.write(link, frame, :infinity)
        DSPyBridge.ping!(bridge)

        events =
          GenServer.whereis(
            bridge
            |> DSPyBridge.Bridge.resolve()
            |> elem(1)
            |> DSPyBridge.Bridge.part(:events)
          )

        :sys.get_state(events)
        send(test, :done)
      end)

    assert_received :done
    assert log =~ "[debug]"
    assert log =~ "dspy-bridge: late_answer call=4711"
    assert log =~ "dspy_event=late_answer"
    assert log =~ "dspy_bridge=LogTest.Bridge"
  end
end
