"""Verbs on triggers, a module per kind."""
