"""Warnings about workflows that are valid and probably wrong."""
