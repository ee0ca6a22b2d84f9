"""The commands: each is a name, a model of its arguments, and a plain function with a docstring."""
