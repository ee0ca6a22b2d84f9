defmodule DSPyBridge.Application do
  @moduledoc false
  # The registry in which a name or pid of a bridge leads to its tables, and that of subscribers.

  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Registry, keys: :unique, name: DSPyBridge.Registry},
      {Registry, keys: :duplicate, name: DSPyBridge.Subscribers}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: __MODULE__)
  end
end
