defmodule DSPyBridge.Supervisor do
  @moduledoc false
  # One bridge:
  #
  #     DSPyBridge.Supervisor      owns the tables
  #     ├── DSPyBridge.Events      the daemon's log, and what subscribers get
  #     ├── Task.Supervisor        callbacks, streams to a pid, the sending of specs
  #     └── DSPyBridge.Owner       owns the port
  #
  # They are restarted together; stopped in reverse, so callbacks are there while requests finish.

  use Supervisor

  alias DSPyBridge.{Bridge, Callbacks, Codec, Daemon, Events, Options, Owner, Secret}

  @spec start_link(keyword() | Secret.t()) :: Supervisor.on_start()
  def start_link(options) do
    options = Options.validate!(options)

    with {:ok, codec} <- Codec.choose(options[:codec]), {:ok, _} <- Daemon.find(options) do
      name = if options[:name], do: [name: options[:name]], else: []
      Supervisor.start_link(__MODULE__, {codec, Secret.wrap(options)}, name)
    else
      {:error, text} -> {:error, DSPyBridge.Error.new(:not_running, text)}
    end
  end

  @impl true
  def init({codec, secret}) do
    options = Secret.unwrap(secret)
    bridge = Bridge.create(options[:name])
    Callbacks.put_all(bridge, options)
    # The drain, the daemon's own five seconds to flush, and some.
    shutdown = options[:grace] + 10_000

    children = [
      {Events, {bridge, codec}},
      {Task.Supervisor, name: Bridge.part(bridge, :tasks)},
      Supervisor.child_spec({Owner, {bridge, codec, secret}}, shutdown: shutdown)
    ]

    Supervisor.init(children, strategy: :one_for_all)
  end
end
