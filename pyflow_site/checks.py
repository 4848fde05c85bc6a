"""System checks of settings that are unsafe on a public server: a part of ``manage.py check --deploy``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

#: Parts of texts that somebody meant to replace.
_PLACEHOLDERS = ("change", "insecure", "placeholder", "example", "replace", "your-", "your_", "secret-key")
#: A random text has more different characters: one of 50 hexadecimal digits about 15.
_LEAST_DIFFERENT = 11


def check_hosts(**_: Any) -> list[CheckMessage]:
    """The hosts are named: with any host accepted, links in answers lead wherever a caller wants them to."""
    if not any(host.strip() in {"*", ".", "[::]", "0.0.0.0"} for host in settings.ALLOWED_HOSTS):  # noqa: S104 - refused
        return []
    hint = "Name the hosts that are served, separated by commas: PYFLOW_ALLOWED_HOSTS=pyflow.example.com"
    return [Error("PYFLOW_ALLOWED_HOSTS accepts every host.", hint=hint, id="pyflow.E001")]


def check_signing_keys(**_: Any) -> list[CheckMessage]:
    """The texts that sign sessions and look up keys are random ones."""
    found = {"PYFLOW_SECRET_KEY": settings.SECRET_KEY, "PYFLOW_KEY_PEPPER": settings.PYFLOW_KEY_PEPPER}
    hint = "Make a random one: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    return [
        Error(f"{name} is a placeholder, or can be guessed.", hint=hint, id="pyflow.E002")
        for name, text in found.items()
        if _is_guessable(text)
    ]


def _is_guessable(text: str) -> bool:
    return len(set(text)) < _LEAST_DIFFERENT or any(part in text.lower() for part in _PLACEHOLDERS)
