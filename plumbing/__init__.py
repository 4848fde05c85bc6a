"""Plumbing that every app uses and that knows no tenants."""
