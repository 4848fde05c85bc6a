"""Distributes runs to workers: claims, leases, fair share, slots, node tasks."""
