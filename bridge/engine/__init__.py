"""The mapping to DSPy. Only this package imports dspy, and nothing imports it before `ready`."""
