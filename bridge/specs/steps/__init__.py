"""A program's wiring as data: read, checked before it runs, and written back."""
