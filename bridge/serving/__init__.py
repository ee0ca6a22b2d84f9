"""The daemon's life: it owns the descriptors, reads, answers, drains and exits."""
