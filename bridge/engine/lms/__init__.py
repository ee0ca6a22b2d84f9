"""Language models as DSPy engines: one road out per provider, one meter around them all."""
