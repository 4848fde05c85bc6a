"""HTTP side of tenants."""
