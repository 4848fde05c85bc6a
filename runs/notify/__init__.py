"""Notifications between processes: work is queued, a run has news, a run has ended."""
