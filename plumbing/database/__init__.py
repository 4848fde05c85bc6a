"""SQL plumbing for every app: statements, transactions, advisory locks, and how the databases differ."""
