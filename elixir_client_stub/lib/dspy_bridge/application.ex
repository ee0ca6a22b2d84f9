defmodule DSPyBridge.Application do
  @moduledoc false
  # The registry in which a name or pid of a bridge leads to its tables.

  use Application

  @impl true
  def start(_type, _args) do
    children = [{Registry, keys: :unique, name: DSPyBridge.Registry}]
    Supervisor.start_link(children, strategy: :one_for_one, name: __MODULE__)
  end
end
