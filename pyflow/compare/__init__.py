"""Comparing and drawing workflows."""
