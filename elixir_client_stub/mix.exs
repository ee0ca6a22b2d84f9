defmodule DSPyBridge.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :dspy_bridge,
      version: @version,
      elixir: "~> 1.14",
      description: "Real DSPy modules and optimizers for Elixir, over an Erlang port",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # Nothing to fetch: the client brings its own MessagePack codec, and finds other codecs and
      # `:telemetry` when the application has them.
      deps: [],
      xref: [exclude: [:jiffy, :telemetry]],
      # The tests find libraries that no dependency names, such as a distribution's jiffy.
      prune_code_paths: Mix.env() != :test,
      package: package(),
      docs: [main: "readme", extras: ["README.md"]]
    ]
  end

  def application do
    [
      mod: {DSPyBridge.Application, []},
      extra_applications: [:logger, :crypto] ++ only_in(Mix.env())
    ]
  end

  # The tests ask the LM server what it saw.
  defp only_in(:test), do: [:inets]
  defp only_in(_), do: []

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [licenses: ["Apache-2.0"], links: %{}, files: ~w(lib mix.exs README.md .formatter.exs)]
  end
end
