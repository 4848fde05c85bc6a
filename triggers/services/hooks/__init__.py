"""Inbound webhooks: their rows, and the requests that come to them."""
