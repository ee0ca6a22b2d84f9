defmodule DSPyAsh.Signature do
  @moduledoc """
  Signatures written in the code of an application.

      defmodule MyApp.Signatures.GenerateAnswer do
        @moduledoc "Answer the question from the context."
        use DSPyAsh.Signature

        input :question, :string, desc: "The question to answer"
        input :context, {:array, :string}, desc: "Passages that were found"
        output :answer, :string, desc: "The answer"
        output :confidence, :float, desc: "From 0 to 1"
      end

      MyApp.Signatures.GenerateAnswer.create!(tenant: "acme")

  The module's documentation is the instruction that the LM reads. Types are those of Ash, in their
  tuple form, too.
  """

  defmacro __using__(_options) do
    quote do
      import DSPyAsh.Signature, only: [input: 2, input: 3, output: 2, output: 3]
      Module.register_attribute(__MODULE__, :dspy_inputs, accumulate: true)
      Module.register_attribute(__MODULE__, :dspy_outputs, accumulate: true)
      @before_compile DSPyAsh.Signature
    end
  end

  @doc "An input field: `desc:`, `optional:`, `default:`."
  defmacro input(name, type, options \\ []) do
    quote do:
            @dspy_inputs(DSPyAsh.Signature.field(unquote(name), unquote(type), unquote(options)))
  end

  @doc "An output field: `desc:`, `optional:`."
  defmacro output(name, type, options \\ []) do
    quote do:
            @dspy_outputs(DSPyAsh.Signature.field(unquote(name), unquote(type), unquote(options)))
  end

  defmacro __before_compile__(env) do
    documented =
      case Module.get_attribute(env.module, :moduledoc) do
        {_line, text} when is_binary(text) -> String.trim(text)
        _none -> nil
      end

    quote do
      @doc "The fields and the instruction, as `DSPyAsh.Core.create_signature` takes them."
      def attributes do
        %{
          name: inspect(__MODULE__),
          docstring: unquote(documented),
          inputs: unquote(Macro.escape(fields(env.module, :dspy_inputs))),
          outputs: unquote(Macro.escape(fields(env.module, :dspy_outputs)))
        }
      end

      @doc "Keeps the signature as a row; `options` are those of an Ash action, such as `tenant:`."
      def create!(options \\ []), do: DSPyAsh.Core.create_signature!(attributes(), options)
    end
  end

  defp fields(module, attribute), do: module |> Module.get_attribute(attribute) |> Enum.reverse()

  @doc false
  def field(name, type, options) do
    %{
      "name" => to_string(name),
      "type" => type_text(type),
      "description" => Keyword.get(options, :desc, ""),
      "optional" => Keyword.get(options, :optional, false)
    }
    |> put_default(Keyword.fetch(options, :default))
  end

  # The daemon reads the types of Elixir as they are written: "string", "{:array, :string}".
  defp type_text(type) when is_atom(type), do: Atom.to_string(type)
  defp type_text(type), do: inspect(type)

  defp put_default(field, :error), do: field
  defp put_default(field, {:ok, default}), do: Map.put(field, "default", default)
end
