"""Passwords of accounts, checked where the hash of one may have to stay as it is."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password, verify_password
from django.contrib.auth.models import User
from django.http import HttpRequest


class PasswordBackend(ModelBackend):
    """Django's, by ``is_right``."""

    def authenticate(
        self,
        request: HttpRequest | None,  # noqa: ARG002 - what Django hands over
        username: str | None = None,
        password: str | None = None,
        **_: Any,
    ) -> User | None:
        """The active account of that name and password. An unknown name costs as much as a wrong password."""
        if username is None or password is None:
            return None
        try:
            user = User.objects.get_by_natural_key(username)
        except User.DoesNotExist:
            make_password(password)
            return None
        return user if is_right(user, password) and self.user_can_authenticate(user) else None


def is_right(user: User, password: str) -> bool:
    """Return whether this is the account's password; if its hash is of an older kind, it is hashed anew.

    Django's ``check_password`` fails where that cannot be stored: web processes with a login of their own may not
    change the password of staff.
    """
    right, outdated = verify_password(password, user.password)
    if right and outdated:
        User.objects.filter(pk=user.pk, password=user.password).update(password=make_password(password))
    return right
