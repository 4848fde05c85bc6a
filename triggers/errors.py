"""Errors of triggers."""
