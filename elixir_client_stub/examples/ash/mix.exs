defmodule DSPyAsh.MixProject do
  use Mix.Project

  def project do
    [
      app: :dspy_ash,
      version: "0.1.0",
      elixir: "~> 1.15",
      start_permanent: Mix.env() == :prod,
      deps: deps()
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end

  defp deps do
    [
      {:ash, "~> 3.0"},
      # Policies and some queries want a SAT solver; this one is plain Elixir.
      {:simple_sat, "~> 0.1"},
      {:dspy_bridge, path: "../.."}
    ]
  end
end
