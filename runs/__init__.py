"""Runs: accepted, executed durably, followed."""
