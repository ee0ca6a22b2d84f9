import Config

config :dspy_ash, ash_domains: [DSPyAsh.Core, DSPyAsh.LM]
