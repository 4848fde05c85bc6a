"""The log of events of a tenant, and those who follow it: pages, streams, webhooks."""
