"""The address of the caller of a request, behind proxies."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request


def address_of(request: Request | HttpRequest) -> str:
    """The caller's address: the connection's, or what the proxies in front of us (``PYFLOW_PROXIES``) say it was.

    Each proxy adds the address that it was called from to the end of ``X-Forwarded-For``. What stands before the part
    that ours have added was written by the caller, and says nothing.
    """
    direct: str = request.META.get("REMOTE_ADDR") or ""
    added = settings.PYFLOW_PROXIES
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    return hops[-added][:64] if 0 < added <= len(hops) else direct
