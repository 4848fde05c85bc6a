"""The Django admin of runs."""

from runs.admin import runs as runs
