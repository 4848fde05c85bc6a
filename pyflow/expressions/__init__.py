"""Expressions, templates and JSONPath, and the limits of what they may compute."""
