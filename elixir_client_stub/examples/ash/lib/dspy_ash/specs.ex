defmodule DSPyAsh.Specs do
  @moduledoc """
  From rows to what the daemon is sent.

  A spec is sent before each use. The daemon knows the same spec again by a hash of it, so that
  costs a small frame and changes nothing; a row that another node has changed is in force with the
  next call, and no cache has to be told.
  """

  alias DSPyAsh.{Bridge, Core}
  alias DSPyAsh.Core.{Module, Program}

  @doc "Actor, tenant and authorization of an action, for the actions that it calls."
  @spec options(struct()) :: keyword()
  def options(context), do: Ash.Context.to_opts(context)

  @doc "A module with its signature."
  @spec module(String.t(), struct()) :: {:ok, Module.t()} | {:error, term()}
  def module(id, context) do
    Core.get_module(id, options(context) ++ [load: [:signature]])
  end

  @doc "A program."
  @spec program(String.t(), struct()) :: {:ok, Program.t()} | {:error, term()}
  def program(id, context), do: Core.get_program(id, options(context))

  @doc "Sends a module, whose signature is loaded."
  @spec send_module(Module.t(), struct()) :: {:ok, map()} | {:error, DSPyAsh.Error.t()}
  def send_module(module, context), do: Bridge.create_module(Module.to_spec(module), context)

  @doc "Sends a program with its modules."
  @spec send_program(Program.t(), struct()) :: {:ok, map()} | {:error, term()}
  def send_program(program, context) do
    with {:ok, modules} <- modules(program, context) do
      Bridge.create_program(Program.to_spec(program, modules), context)
    end
  end

  defp modules(program, context) do
    program
    |> Program.module_ids()
    |> Enum.uniq()
    |> Enum.reduce_while({:ok, []}, fn id, {:ok, found} ->
      case module(id, context) do
        {:ok, module} -> {:cont, {:ok, [module | found]}}
        error -> {:halt, error}
      end
    end)
  end
end
