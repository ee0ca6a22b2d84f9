defmodule DSPyBridge.Twins do
  @moduledoc false
  # Functions that give the map or raise, beside those that return `{:ok, map}` or an error.

  @doc "For each of these functions, with every arity that it has, one with an exclamation mark."
  defmacro define(names) do
    quote bind_quoted: [names: names] do
      arities = Enum.group_by(Module.definitions_in(__MODULE__, :def), &elem(&1, 0), &elem(&1, 1))

      for name <- names, arity <- arities[name] do
        args = Macro.generate_arguments(arity, __MODULE__)

        if arity == Enum.max(arities[name]) do
          @doc "Like `#{name}/#{arity}`, but gives the map itself, and raises the `DSPyBridge.Error`."
        else
          @doc false
        end

        @spec unquote(:"#{name}!")(
                DSPyBridge.bridge(),
                unquote_splicing(List.duplicate(quote(do: term()), arity - 1))
              ) :: map()
        def unquote(:"#{name}!")(unquote_splicing(args)) do
          case unquote(name)(unquote_splicing(args)) do
            {:ok, result} -> result
            {:error, error} -> raise error
          end
        end
      end
    end
  end
end
