"""Optimizer runs and evaluations: how they go, what is around them, and what they give."""
