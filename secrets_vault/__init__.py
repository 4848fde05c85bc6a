"""Encrypted secrets and their providers."""
