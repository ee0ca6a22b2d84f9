defmodule DSPyBridge.OptionsTest do
  use ExUnit.Case, async: true

  alias DSPyBridge.{Codec, Daemon, Error, Options}

  test "each wrong option is refused with what it must be, and without its value" do
    for {name, wrong} <- [
          name: "a string",
          command: [],
          python: "",
          args: "x",
          env: %{a: 1},
          cd: 1,
          log_level: :loud,
          codec: "json",
          configure: 1,
          tools: 1,
          grace: -1,
          health_interval: 0,
          backoff: {10, 1},
          max_failures: 0
        ] do
      error = assert_raise ArgumentError, fn -> Options.validate!([{name, wrong}]) end
      assert error.message =~ ":#{name} of DSPyBridge must be"
    end
  end

  test "a callback of another arity is refused with the shapes that it may have" do
    assert_raise ArgumentError, ~r/the metric "m" takes \(example, prediction\) or/, fn ->
      Options.validate!(metrics: %{"m" => fn _ -> 1 end})
    end

    assert_raise ArgumentError, ~r/there is no such String.nothing/, fn ->
      Options.validate!(tools: %{"t" => {String, :nothing, []}})
    end

    assert_raise ArgumentError, ~r/did you mean :metric/, fn ->
      DSPyBridge.Callbacks.check!(:metrc, "m", fn _, _ -> 1 end)
    end
  end

  test "every option has a line in the documentation, and a default" do
    docs = Options.docs()

    for {name, _value} <- Options.validate!([]) do
      assert docs =~ "* `:#{name}` - "
    end
  end

  test "the codecs in the options' text are those that can be chosen" do
    for name <- Codec.names(), do: assert({_, _} = Codec.choose(name))
  end

  describe "where Python is looked for" do
    test "what is named and is not there is an error that says who named it" do
      assert {:error, text} = Daemon.find(python: "/no/such/python")
      assert text =~ "the option :python names /no/such/python"
      assert {:error, text} = Daemon.find(command: ["/no/such/daemon", "--x"])
      assert text =~ "the option :command"

      assert {:error, %Error{code: :not_running, message: message}} =
               DSPyBridge.start_link(python: "/no/such/python")

      assert message =~ "/no/such/python"
    end

    test "a command wins over a Python, and keeps its arguments" do
      sh = System.find_executable("sh")

      assert Daemon.find(command: ["sh", "-c", "x"], python: "/no/such/python") ==
               {:ok, {sh, ["-c", "x"]}}

      assert Daemon.find(python: sh) == {:ok, {sh, ["-m", "bridge"]}}
    end
  end

  test "a codec whose library is missing is an error at the start, with what to add" do
    missing =
      Enum.find([:jason, :msgpax, :otp_json, :json], &match?({:error, _}, Codec.choose(&1)))

    if missing do
      assert {:error, %Error{message: message}} =
               DSPyBridge.start_link(codec: missing, python: "sh")

      assert message =~ "needs"
    end
  end
end
