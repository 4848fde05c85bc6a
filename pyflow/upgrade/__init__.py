"""Converts version 1 workflow files to version 2."""
