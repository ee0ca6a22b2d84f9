"""The types of fields: what they are, and every spelling of them that a host can send."""
