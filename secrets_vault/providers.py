"""Where the secrets of a tenant come from."""

from __future__ import annotations

import os


class EnvironmentProvider:
    """Secrets that the operator puts into the environment of the workers.

    ``{{ secrets.API_KEY }}`` of tenant ``acme-inc`` is ``PYFLOW_SECRET__ACME_INC__API_KEY``: the tenant is part of the
    name, so that no tenant can read another's.
    """

    def __init__(self, tenant_slug: str) -> None:
        self._prefix = f"PYFLOW_SECRET__{tenant_slug.upper().replace('-', '_')}__"

    def get(self, name: str) -> str:
        """The value of a secret; ``KeyError`` if there is none of that name."""
        # Slugs have no `_` and names no `__`: two tenants' variables never have the same name.
        if "__" in name:
            raise KeyError(name)
        return os.environ[self._prefix + name]
