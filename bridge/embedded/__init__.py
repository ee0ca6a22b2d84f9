"""An LM without network: it reads prompts as any other does and answers by rules. No DSPy here."""
