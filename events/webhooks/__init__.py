"""Webhooks out: endpoints that follow the log of their tenant, and the deliveries to them."""
