defmodule DSPyAsh.Core.Actions.CompileSignature do
  @moduledoc "What DSPy reads in `\"question, context: list[str] -> answer: float\"`."

  use Ash.Resource.Actions.Implementation

  alias DSPyAsh.Bridge

  @impl true
  def run(input, _opts, context) do
    id = "signature-" <> Ash.UUID.generate()
    spec = %{id: id, type: :predict, signature: input.arguments.signature_string}

    with {:ok, _} <- Bridge.create_module(spec, context),
         {:ok, %{"signature" => signature}} <- Bridge.get(:module, id, context),
         {:ok, _} <- Bridge.delete(:module, id, context) do
      {:ok, signature}
    end
  end
end
