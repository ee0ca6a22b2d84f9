"""Module specs as DSPy modules, and what those call: tools, retrievers, the sandbox."""
