"""Optimizer runs: each in a child process that speaks this same protocol to the daemon."""
