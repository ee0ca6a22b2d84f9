defmodule DSPyBridge.SecretsTest do
  @moduledoc "Keys are seen in no state, report, log or error."

  use DSPyBridge.Test.Daemon, async: true

  import ExUnit.CaptureLog

  @key "sk-very-secret-0123456789"
  @lm %{provider: "openai", model: "gpt-4o-mini", api_key: @key, base_url: "http://127.0.0.1:9"}

  setup do
    options = options(name: __MODULE__, configure: %{lm: @lm}, env: %{"OPENAI_API_KEY" => @key})
    bridge = start_supervised!({DSPyBridge, options}, id: :secret)
    DSPyBridge.configure!(bridge, %{lms: %{mine: @lm}})

    DSPyBridge.create_module!(bridge, %{
      id: "m",
      type: "predict",
      signature: "question -> answer",
      lm: @lm
    })

    %{bridge: bridge, options: options}
  end

  test "the processes of a bridge do not show them", %{bridge: bridge} do
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)
    owner = GenServer.whereis(DSPyBridge.Bridge.part(tables, :owner))

    for shown <- [
          :sys.get_state(owner),
          :sys.get_status(owner),
          :sys.get_state(bridge),
          :sys.get_status(bridge),
          Supervisor.which_children(bridge),
          Process.info(owner),
          for(
            table <- [:specs, :calls, :callbacks, :link],
            do: :ets.tab2list(Map.fetch!(tables, table))
          )
        ] do
      refute inspect(shown, limit: :infinity, printable_limit: :infinity, structs: false) =~ @key
      refute :io_lib.format("~p", [shown]) |> IO.iodata_to_binary() =~ @key
    end
  end

  test "the specification under the application's supervisor does not show them", context do
    spec = DSPyBridge.child_spec(context.options)
    refute inspect(spec, limit: :infinity, printable_limit: :infinity) =~ @key
    refute :io_lib.format("~p", [spec]) |> IO.iodata_to_binary() =~ @key

    pool = DSPyBridge.Pool.child_spec([size: 1] ++ context.options)
    refute inspect(pool, limit: :infinity, printable_limit: :infinity) =~ @key
  end

  test "an owner that crashes does not tell them", %{bridge: bridge} do
    {:ok, tables} = DSPyBridge.Bridge.resolve(bridge)

    log =
      capture_log(fn ->
        owner = GenServer.whereis(DSPyBridge.Bridge.part(tables, :owner))
        ref = Process.monitor(owner)
        GenServer.cast(owner, :what_it_does_not_know)
        assert_receive {:DOWN, ^ref, :process, _, _}, 20_000
        eventually(fn -> match?({:ok, _}, DSPyBridge.ping(bridge)) end)
      end)

    assert log =~ "Owner"
    refute log =~ @key
  end

  test "errors and exports do not tell them", %{bridge: bridge} do
    assert {:error, error} = DSPyBridge.forward(bridge, "m", %{question: "?"})
    refute inspect(error) =~ @key
    refute inspect(DSPyBridge.export!(bridge), limit: :infinity) =~ @key
  end
end
