"""Permissions of requests: one per method, granted by the role and limited by the scopes."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants.access import LEAST_ROLE, Permission, Principal
from tenants.errors import ForbiddenError
from tenants.grants import permissions_on


class Allowed(BasePermission):
    """Every view says what each of its methods needs (``permissions``); a method that does not is a mistake of ours."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """``False`` without a credential (401); ``ForbiddenError`` naming what is missing; else ``True``."""
        principal = request.user
        if not isinstance(principal, Principal):
            return False
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method == "OPTIONS" or not hasattr(view, method.lower()):
            return True  # it says nothing of the tenant, or 405 follows
        needed: Permission | None = view.permissions[method]
        if needed is None:
            return True  # any credential of the tenant will do
        if not principal.in_scope(needed):
            raise ForbiddenError(f"This key lacks the scope `{needed}`. Use a key that has it.")
        if principal.may(needed):
            return True
        shared = view.shared_object()
        if shared is not None and needed in permissions_on(principal, shared):
            return True
        raise ForbiddenError(
            f"The role `{principal.role}` lacks the permission `{needed}`, which `{LEAST_ROLE[needed]}` has."
        )
