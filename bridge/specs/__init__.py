"""What a host may say about a program, as pure data: signatures, types and names. No dspy here."""
