"""HTTP side of secrets."""
