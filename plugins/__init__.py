"""Discovery of node types and what a tenant may use."""
