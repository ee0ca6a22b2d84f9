"""A host's metrics as DSPy calls them, whoever it is that scores."""
