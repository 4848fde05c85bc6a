"""Rows, nodes and workflows that tests are made of."""
