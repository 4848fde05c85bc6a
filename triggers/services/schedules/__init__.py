"""Verbs on schedules, and the work of the scheduler."""
