"""Verbs about runs: start, control, rerun, bulk actions, signals, end."""
