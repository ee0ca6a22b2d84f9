defmodule DSPyBridge.FakeDaemon do
  @moduledoc """
  A daemon for an application's own tests: no Python, no DSPy, and answers that the test gives.

      setup do
        fake = start_supervised!(DSPyBridge.FakeDaemon)
        start_supervised!({DSPyBridge, name: MyApp.DSPy, fake: fake})
        %{fake: fake}
      end

      test "a ticket is sent to its team", %{fake: fake} do
        FakeDaemon.answer(fake, "triage", %{topic: "billing"})
        assert MyApp.Tickets.route("I was charged twice") == :billing
        assert [%{args: %{"inputs" => %{"message" => "I was charged twice"}}}] =
                 FakeDaemon.calls(fake, "forward")
      end

  Everything else is the real client: the bridge, its supervision, codec, callbacks, streams and
  errors. What passes between the two are the frames of the protocol, so what is recorded is what
  the daemon would be sent, with string keys.

  ## What it does by itself

    * `configure`, `create_module`, `create_program`, `put_dataset`, `import`, `get`, `list`,
      `delete` and `export` keep and give specs, as the daemon does, but check nothing
    * `forward` and `execute` of an id that was never created are `not_found`
    * `execute` of a program whose `forward` is a function of the application calls that function,
      and the calls of modules in it are answered like all others
    * `batch` asks the answers once a row
    * `ping`, `stats`, `usage`, `history`, `run_list`, `cancel` and `shutdown` answer as an idle
      daemon does
    * every other command wants a stub

  ## Answers

  `answer/3` is for the output fields of one module or program, `stub/3` for any command. Both take
  a function, which runs in a process of its own: it may sleep, or wait for a message, without
  holding up another call, and is killed when its request is cancelled. In it, `event/3`, `chunk/4`
  and `call_host/4` do what the daemon does while it works:

      FakeDaemon.stub(fake, "optimize", fn args, request ->
        FakeDaemon.event(request, "progress", %{phase: "scoring", trial: 1})
        {:ok, score} = FakeDaemon.call_host(request, "metric", "f1", %{
          example: hd(args["trainset"]), prediction: %{answer: "4"}
        })
        {:ok, %{status: "completed", score: score}}
      end)

  What a function gives is the answer:

    * `{:ok, result}`, or just a map
    * `{:error, code}` or `{:error, code, message}`, where `code` is one of
      `DSPyBridge.Error.codes/0`, or `{:error, %DSPyBridge.Error{}}`
    * `:never`: the request is left without an answer

  An exception in it is answered `internal`, and logged.
  """

  use GenServer

  alias DSPyBridge.FakeDaemon.{Connection, Request, Script}

  @type fake :: GenServer.server()

  @typedoc "A request as it was recorded; `args` have string keys, `envelope` the other keys."
  @type call :: %{command: String.t(), args: map(), envelope: map()}

  @typedoc "What a function of a stub or an answer may give."
  @type outcome ::
          {:ok, term()}
          | map()
          | {:error, DSPyBridge.Error.code()}
          | {:error, DSPyBridge.Error.code(), String.t()}
          | {:error, DSPyBridge.Error.t()}
          | :never

  @doc "Starts a fake daemon; `:name` registers it. Give it to a bridge as its option `:fake`."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(options \\ []) do
    callers = [self() | Process.get(:"$callers", [])]
    GenServer.start_link(__MODULE__, callers, options)
  end

  @doc """
  Sets what a command is answered, until the next `stub/3` of it: a function of the arguments, or of
  the arguments and the `DSPyBridge.FakeDaemon.Request`, or the answer itself.

      FakeDaemon.stub(fake, "generate", fn %{"prompt" => prompt} -> {:ok, %{text: String.upcase(prompt)}} end)
      FakeDaemon.stub(fake, "evaluate", {:error, :budget_exceeded})

  """
  @spec stub(fake(), String.t() | atom(), outcome() | function()) :: :ok
  def stub(fake, command, answer),
    do: GenServer.call(fake, {:script, {:command, to_string(command)}, checked!(answer)})

  @doc """
  Sets the output fields of a module or program: a map, a function of the inputs (and the request),
  or a list of these, one for each call; the last stays.

      FakeDaemon.answer(fake, "qa", fn %{"question" => question} -> %{answer: question <> "!"} end)
      FakeDaemon.answer(fake, "qa", [{:error, :lm_rate_limited}, %{answer: "4"}])

  A call with `stream: true` gets a `chunk` for each word of the text fields first.
  """
  @spec answer(fake(), String.t() | integer(), outcome() | function() | [outcome() | function()]) ::
          :ok
  def answer(fake, id, answers) when is_list(answers) and answers != [] do
    Enum.each(answers, &checked!/1)
    GenServer.call(fake, {:script, {:fields, to_string(id)}, answers})
  end

  def answer(fake, id, answer), do: answer(fake, id, [answer])

  defp checked!(answer) when is_function(answer) do
    if is_function(answer, 1) or is_function(answer, 2),
      do: answer,
      else: raise(ArgumentError, "an answer takes (args) or (args, request): #{inspect(answer)}")
  end

  defp checked!(answer) do
    Script.outcome!(answer)
    answer
  end

  @doc "The requests that came, in order; of one command only if that is given. Not hello's."
  @spec calls(fake(), String.t() | atom() | nil) :: [call()]
  def calls(fake, command \\ nil) do
    calls = GenServer.call(fake, :calls)
    if command, do: Enum.filter(calls, &(&1.command == to_string(command))), else: calls
  end

  @doc "Forgets the requests that came; stubs, answers and specs stay."
  @spec clear(fake()) :: :ok
  def clear(fake), do: GenServer.call(fake, :clear)

  @doc """
  Ends the daemon as a crash does: calls in flight get `:worker_died`, and the bridge starts it
  again and sends its specs.
  """
  @spec crash(fake(), non_neg_integer()) :: :ok
  def crash(fake, status \\ 137), do: GenServer.call(fake, {:crash, status})

  @doc "Sends an event about a request: `\"progress\"`, `\"status\"`, any."
  @spec event(Request.t(), String.t(), map()) :: :ok
  def event(%Request{} = request, name, data),
    do: Request.say(request, %{event: name, id: request.id, data: data})

  @doc "Sends a piece of an output field; `more` are keys of its data beside `field` and `text`."
  @spec chunk(Request.t(), String.t() | atom(), String.t(), map()) :: :ok
  def chunk(%Request{} = request, field, text, more \\ %{}) do
    data = Map.merge(%{field: field, text: text, index: 0, call: 0, module_id: nil}, more)
    event(request, "chunk", data)
  end

  @doc """
  Calls back into the application, as the daemon does for its tools (`"tool"`), metrics
  (`"metric"`), rewards (`"reward"`), retrievers (`"retrieve"`), LMs (`"lm"`) and forwards
  (`"forward"`); `{:error, message}` when the callback failed.
  """
  @spec call_host(Request.t(), String.t(), String.t(), map()) ::
          {:ok, term()} | {:error, String.t()}
  def call_host(%Request{} = request, target, name, args),
    do: Request.call_host(request, target, name, args)

  @doc false
  # Called by the process that owns what would be the port; the connection is linked to it.
  @spec open(fake()) :: {:ok, pid()} | {:error, String.t()}
  def open(fake) do
    case GenServer.whereis(fake) do
      nil -> {:error, "the option :fake names #{inspect(fake)}, which does not run"}
      pid -> Connection.start_link(pid, self())
    end
  end

  ## The script and the record

  @impl true
  def init(callers), do: {:ok, %{script: Script.new(), calls: [], callers: callers, open: %{}}}

  @impl true
  def handle_call({:script, key, answer}, _from, state),
    do: {:reply, :ok, %{state | script: Script.put(state.script, key, answer)}}

  def handle_call(:calls, _from, state), do: {:reply, Enum.reverse(state.calls), state}
  def handle_call(:clear, _from, state), do: {:reply, :ok, %{state | calls: []}}

  def handle_call({:crash, status}, _from, state) do
    for {_monitor, connection} <- state.open, do: Connection.crash(connection, status)
    {:reply, :ok, state}
  end

  # The connection takes a request's answer at the moment it is recorded: lists go by arrival.
  def handle_call({:take, call}, {connection, _tag}, state) do
    {answer, script} = Script.take(state.script, call, connection)
    {:reply, {answer, state.callers}, %{state | script: script, calls: [call | state.calls]}}
  end

  def handle_call(:opened, {connection, _tag}, state) do
    monitor = Process.monitor(connection)
    {:reply, :ok, %{state | open: Map.put(state.open, monitor, connection)}}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, connection, _reason}, state) do
    script = Script.forget(state.script, connection)
    {:noreply, %{state | open: Map.delete(state.open, monitor), script: script}}
  end
end
