defmodule DSPyAsh.SimplifiedBaleen do
  @moduledoc """
  A program whose way is Elixir: search twice, each time with a query that an LM writes from what
  was found so far, then answer.

  The daemon calls `forward/2` when the program is executed, evaluated or optimized, so an optimizer
  finds demonstrations for both modules although it never sees this code.

      children = [
        {DSPyAsh.Bridge, configure: …}
      ]

      program = DSPyAsh.SimplifiedBaleen.create!(&MyApp.Search.passages/1, tenant: "acme")
      DSPyAsh.Core.execute(program.id, %{question: "…"}, tenant: "acme")
  """

  alias DSPyAsh.{Bridge, Core}

  defmodule GenerateSearchQuery do
    @moduledoc "Write a search query that finds what is still missing to answer the question."
    use DSPyAsh.Signature

    input(:question, :string, desc: "The question to answer")
    input(:context, :string, desc: "What was found so far")
    output(:query, :string, desc: "Words to look for")
  end

  defmodule GenerateAnswer do
    @moduledoc "Answer the question from the context."
    use DSPyAsh.Signature

    input(:question, :string, desc: "The question to answer")
    input(:context, :string, desc: "Passages that were found")
    output(:answer, :string, desc: "The answer")
    output(:confidence, :float, desc: "From 0 to 1")
  end

  @max_hops 2

  @doc "Writes signatures, modules and the program; `retrieve` gives passages for a query."
  def create!(retrieve, options) when is_function(retrieve, 1) do
    query = module!("generate_query", :predict, GenerateSearchQuery, options)
    answer = module!("generate_answer", :chain_of_thought, GenerateAnswer, options)
    modules = for module <- [query, answer], do: %{"id" => module.id, "name" => module.name}
    id = Ash.UUID.generate()

    # Before the row: the daemon is told of the program when it is written.
    forward = &forward(&1, &2, %{query: query.id, answer: answer.id, retrieve: retrieve})
    :ok = Bridge.register_forward(id, forward)

    Core.create_program!(
      %{
        id: id,
        name: "SimplifiedBaleen",
        signature: "question -> answer, confidence: float",
        modules: modules,
        forward: :host
      },
      options
    )
  end

  defp module!(name, type, signature, options) do
    Core.create_module!(
      %{name: name, type: type, signature_id: signature.create!(options).id},
      options
    )
  end

  @doc """
  The program's way. It calls modules with the context that it is given, and so within the tenant,
  the budget, the deadline and the trace of the request that it serves.
  """
  def forward(%{"question" => question}, context, %{retrieve: retrieve} = program) do
    found =
      Enum.reduce(1..@max_hops, "", fn _hop, found ->
        inputs = %{question: question, context: found}
        %{"query" => query} = DSPyBridge.forward!(context, program.query, inputs)
        Enum.join([found | retrieve.(query)], "\n")
      end)

    context
    |> DSPyBridge.forward!(program.answer, %{question: question, context: found})
    |> Map.take(["answer", "confidence"])
  end
end
