# The whole way with a real daemon: `mix run demo.exs`. The LM is the daemon's own, so no key is
# needed; DSPY_BRIDGE_PYTHON names the Python that has dspy-bridge.

alias DSPyAsh.{Core, LM}

{:ok, _} = Supervisor.start_link([DSPyAsh.Bridge], strategy: :one_for_one)
Logger.configure(level: :warning)
acme = [tenant: "acme"]

lm =
  LM.create_provider!(%{name: "main", type: :embedded, model: "lexical", is_default: true}, acme)

{:ok, %{"status" => "configured"}} = LM.configure(lm.id, acme)

# A program of one module, from rows.

signature =
  Core.create_signature!(
    %{
      name: "topic",
      docstring: "Say what the message is about.",
      inputs: [%{"name" => "message", "type" => "string"}],
      outputs: [%{"name" => "topic", "type" => "Literal['billing', 'login']"}]
    },
    acme
  )

module =
  Core.create_module!(%{name: "topic", type: :predict, signature_id: signature.id}, acme)

program =
  Core.create_program!(
    %{name: "triage", modules: [%{"id" => module.id, "name" => module.name}]},
    acme
  )

{:ok, %{"topic" => topic}} = Core.execute(program.id, %{message: "I am locked out."}, acme)
IO.puts("before  I am locked out. -> #{topic}")

# A mistake is told before it is kept.

wrong = %{name: "x", type: :predict, signature_id: signature.id, config: %{temprature: 1}}
{:error, %Ash.Error.Invalid{errors: [error]}} = Core.create_module(wrong, acme)
IO.puts("refused " <> error.text)

# A run of an optimizer, performed here and now; in an application a job does it.

trainset =
  for {message, topic} <- [
        {"I was charged twice this month.", "billing"},
        {"The invoice shows the wrong amount.", "billing"},
        {"Please refund my last payment.", "billing"},
        {"I cannot sign in since the update.", "login"},
        {"The password mail never arrives.", "login"},
        {"My account is locked.", "login"}
      ],
      do: %{"message" => message, "topic" => topic}

optimizer = Core.create_optimizer!(%{name: "few shots", type: :bootstrap_fewshot}, acme)

run =
  %{
    optimizer_id: optimizer.id,
    program_id: program.id,
    trainset: trainset,
    metric: %{"name" => "exact_match", "field" => "topic"}
  }
  |> Core.start_run!(acme)
  |> Core.perform_run!(acme)

:completed = run.status
true = run.score > run.baseline_score
IO.puts("run     #{run.baseline_score} before, #{run.score} after")

demos = Core.get_module!(module.id, acme).state["demos"]
IO.puts("learned #{length(demos)} demonstrations, which are in the module's row")

{:ok, %{"topic" => "login"}} = Core.execute(program.id, %{message: "I am locked out."}, acme)
{:ok, %{"total" => %{"calls" => calls}}} = LM.usage(acme)
{:ok, %{"total" => %{"calls" => 0}}} = LM.usage(tenant: "another")
IO.puts("usage   #{calls} LM calls of this tenant, none of another")

# A program whose way is Elixir, taught by the same optimizer.

library = %{
  "Prado" => "The Prado Museum is an art museum in Madrid, Spain.",
  "Madrid" => "The Manzanares flows through Madrid.",
  "Brandenburg" => "The Brandenburg Gate is a monument in Berlin, Germany.",
  "Berlin" => "The Spree flows through Berlin.",
  "Petra" => "Petra is an ancient city carved into rock in Jordan.",
  "Jordan" => "Amman is the capital of Jordan."
}

retrieve = fn query -> for {word, passage} <- library, query =~ word, do: passage end
baleen = DSPyAsh.SimplifiedBaleen.create!(retrieve, acme)

trainset =
  for {question, answer} <- [
        {"Which river flows through the city where the Prado Museum stands?", "Manzanares"},
        {"Which river flows through the city where the Brandenburg Gate stands?", "Spree"},
        {"What is the capital of the country where Petra is found?", "Amman"}
      ],
      do: %{"question" => question, "answer" => answer}

run =
  %{
    optimizer_id: optimizer.id,
    program_id: baleen.id,
    trainset: trainset,
    metric: "exact_match"
  }
  |> Core.start_run!(acme)
  |> Core.perform_run!(acme)

:completed = run.status
IO.puts("baleen  #{run.baseline_score} before, #{run.score} after; its way is Elixir")
