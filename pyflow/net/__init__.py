"""The hardened HTTP client, checked addresses, and confined files."""
