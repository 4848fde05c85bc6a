"""Which worker executes what: claims, leases, fair share, slots, node tasks."""
