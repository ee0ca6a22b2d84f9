"""Hearing an LM speak: its text, piece by piece, taken apart into the output fields it is of."""
