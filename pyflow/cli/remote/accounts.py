"""`pyflow remote login`, `logout`, `profiles`, `use` and `whoami`."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from pyflow.cli.console import err, fail, out, out_json, table
from pyflow.cli.remote import store
from pyflow.cli.remote.connection import FormatOption, ProfileOption, connected, speaking
from pyflow.cli.remote.store import Profile

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the profile.")]


def login(
    name: NameArgument = "default",
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="URL of the server. Default: PYFLOW_URL.")
    ] = None,
) -> None:
    """Save a server and its API key as a profile, which becomes the default profile.

    The key is read from PYFLOW_KEY or from standard input: never from an argument, which others can see. It is tried
    first. The file is readable by its owner only.
    """
    profiles = store.load()
    known = profiles.by_name.get(name)
    url = url or os.environ.get("PYFLOW_URL") or (known.url if known else None)
    if not url:
        fail("no server is given: use --url URL")
    if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in {"localhost", "127.0.0.1", "::1"}:
        err(f"Warning: {url} is not encrypted: the key can be read in transit.")
    profile = Profile(name, url, _key())
    with speaking(profile) as client:
        me = client.me()
    profiles.by_name[name] = profile
    profiles.default = name
    store.save(profiles)
    out(f"{name}: {url} as {me.name} ({me.role} of {me.tenant.slug})")


def _key() -> str:
    key = os.environ.get("PYFLOW_KEY", "")
    if not key:
        key = getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        fail("an API key is expected in PYFLOW_KEY or on standard input: `pyflow remote login --url URL < key-file`")
    return key


def logout(name: NameArgument = "default") -> None:
    """Delete a profile. Its API key stays valid until it is revoked on the server."""
    profiles = store.load()
    if profiles.by_name.pop(name, None) is None:
        fail(f"there is no profile {name!r}")
    if profiles.default == name:
        profiles.default = next(iter(profiles.by_name), None)
    store.save(profiles)
    out(f"{name}: forgotten")


def profiles(format: FormatOption = "table") -> None:
    """List the profiles, without their keys; `*` marks the default."""
    known = store.load()
    if format == "json":
        out_json([{"name": p.name, "url": p.url, "default": p.name == known.default} for p in known.by_name.values()])
    elif known.by_name:
        rows = [("*" if p.name == known.default else " ", p.name, p.url) for p in known.by_name.values()]
        out("\n".join(table(rows, "")))
    else:
        err("No profiles. Create one with `pyflow remote login --url URL`.")


def use(name: NameArgument) -> None:
    """Set the default profile."""
    known = store.load()
    if name not in known.by_name:
        fail(f"there is no profile {name!r} (there is {', '.join(known.by_name) or 'none'})")
    known.default = name
    store.save(known)
    out(f"{name}: {known.by_name[name].url}")


def whoami(profile: ProfileOption = None, format: FormatOption = "table") -> None:
    """Show the identity and the permissions of the API key."""
    with connected(profile) as client:
        me = client.me()
    if format == "json":
        out_json(me.model_dump(mode="json"))
    else:
        out(f"{me.name} ({me.kind}): {me.role} of {me.tenant.slug}\n{', '.join(me.permissions)}")
