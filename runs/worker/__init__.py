"""Executes claimed runs and node tasks."""
