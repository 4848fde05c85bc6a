"""The network policy of this installation."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from pyflow.net.addresses import NetworkPolicy


@cache
def network_policy() -> NetworkPolicy:
    """Return the network policy: the public internet, and what the operator lists or leaves to workflows."""
    permit = settings.PYFLOW_PERMIT_PRIVATE_NETWORKS
    return NetworkPolicy.of(settings.PYFLOW_ALLOWED_NETWORKS, permit_private_networks=permit)
