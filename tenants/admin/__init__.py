"""The operator's screens of tenants: who belongs to them, the keys that act for them, what was done in them.

``base`` is what the screens of every app are made of. Importing this package registers those of ``tenants``.
"""

from tenants.admin import audit, keys, members, tenants

__all__ = ["audit", "keys", "members", "tenants"]
