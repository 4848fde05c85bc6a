"""HTTP side of triggers, a module per kind."""
