"""Tenancy and access: tenants, members, API keys, quotas, audit, row scoping."""
