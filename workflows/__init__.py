"""Workflows and their immutable versions."""
