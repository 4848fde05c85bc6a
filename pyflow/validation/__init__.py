"""Checks before a run: loading, checking and linting workflows, accepting inputs."""
