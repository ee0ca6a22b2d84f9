"""Source that a host gives: read and checked, never run, here."""
