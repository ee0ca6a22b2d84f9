defmodule DSPyBridge.Context do
  @moduledoc """
  What a callback knows about the call it serves.

  It stands in place of the bridge: a call made with it runs inside the request that called the
  callback, in its trace, tenant, deadline and budget, and never waits for a place of its own.

      def answer(%{"question" => question}, context) do
        {:ok, %{"query" => query}} = DSPyBridge.forward(context, "query", %{question: question})
        passages = MyApp.Search.find(query)
        {:ok, answer} = DSPyBridge.forward(context, "answer", %{question: question, context: passages})
        answer
      end

  `args` are all arguments that the daemon sent: a metric finds the trace and the example's index
  there, a model the streaming flag.
  """

  @type t :: %__MODULE__{
          bridge: pid(),
          call: DSPyBridge.Wire.id(),
          target: String.t(),
          name: String.t(),
          request: DSPyBridge.Wire.id() | nil,
          args: map()
        }

  @enforce_keys [:bridge, :call, :target, :name]
  defstruct [:bridge, :call, :target, :name, :request, args: %{}]
end
