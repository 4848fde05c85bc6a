"""Profiles: servers and keys by name, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyflow.cli.console import fail
from pyflow.net.files import make_private

#: What anybody but the owner may do with a file.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Profile:
    """A server and a key for it, which no ``repr`` shows."""

    name: str
    url: str
    key: str = field(repr=False)


@dataclass(slots=True)
class Profiles:
    """All profiles by name; ``default`` is the one that is used unless another is named."""

    default: str | None = None
    by_name: dict[str, Profile] = field(default_factory=dict)


def path() -> Path:
    """Return the file of the profiles: ``PYFLOW_PROFILES``, or ``pyflow/profiles.json`` in the user's config folder."""
    if named := os.environ.get("PYFLOW_PROFILES"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "pyflow" / "profiles.json"


def load() -> Profiles:
    """The profiles; none if there is no file. Exits with 2 if it is not ours or others can read it."""
    file = path()
    try:
        with file.open(encoding="utf-8") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read()
    except FileNotFoundError:
        return Profiles()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}")
    if os.name == "posix" and mode & _OTHERS:
        fail(f"{file} holds keys, and others can read it (mode {mode:04o}): chmod 600 {file}")
    try:
        return _parsed(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        fail(f"{file} is not a file of profiles: correct or remove it")


def save(profiles: Profiles) -> None:
    """Write all profiles, readable by nobody else at any moment, and as a whole or not at all."""
    file = path()
    content = {
        "default": profiles.default,
        "profiles": {name: {"url": profile.url, "key": profile.key} for name, profile in profiles.by_name.items()},
    }
    try:
        make_private(file.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=".profiles-", dir=file.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump(content, opened, indent=2)
                opened.write("\n")
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        fail(f"{file} cannot be written: {error}")


def _parsed(data: dict[str, Any]) -> Profiles:
    entries = data["profiles"].items()
    by_name = {name: Profile(name, str(entry["url"]), str(entry["key"])) for name, entry in entries}
    return Profiles(data["default"] if data["default"] in by_name else None, by_name)
