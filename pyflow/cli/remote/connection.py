"""Connections to a server: selects its profile, and turns its errors into exit codes and messages."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from pyflow.cli.console import ExitCode, err, fail
from pyflow.cli.remote import store
from pyflow.cli.remote.store import Profile

if TYPE_CHECKING:
    from pyflow_client import Client, ProblemError

Format = Literal["table", "json"]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", "-p", metavar="NAME", help="Profile created by `login`. Default: PYFLOW_PROFILE."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="json: the response of the API.")]

#: A user waits for the command: an unreachable server is reported soon. Only a run that has begun is followed for
#: as long as the client does by itself (10 minutes).
_ATTEMPTS, _SECONDS = 3, 5.0


def chosen(name: str | None) -> Profile:
    """The profile that is meant: by name, by PYFLOW_URL and PYFLOW_KEY, or the default one. Exits with 2 if none is."""
    name = name or os.environ.get("PYFLOW_PROFILE") or None
    url = os.environ.get("PYFLOW_URL")
    if name is None and url:
        key = os.environ.get("PYFLOW_KEY")
        if not key:
            fail("PYFLOW_URL is set, PYFLOW_KEY is not: it is the API key for that server")
        return Profile("environment", url, key)
    profiles = store.load()
    name = name or profiles.default
    if name is None:
        fail("no server is known: `pyflow remote login --url URL`, or set PYFLOW_URL and PYFLOW_KEY")
    if name not in profiles.by_name:
        there = ", ".join(profiles.by_name) or "none"
        fail(f"there is no profile {name!r} (there is {there}): `pyflow remote login {name} --url URL`")
    return profiles.by_name[name]


@contextmanager
def connected(name: str | None) -> Iterator[Client]:
    """A client of the chosen server; see ``speaking``."""
    with speaking(chosen(name)) as client:
        yield client


@contextmanager
def speaking(profile: Profile) -> Iterator[Client]:
    """A client of a server. What goes wrong with it is said on standard error, and is exit code 3 or 4."""
    try:
        import stamina  # noqa: PLC0415 - comes with it

        import pyflow_client  # noqa: PLC0415 - no other command needs it
    except ImportError:
        fail("`pyflow remote` needs the client: pip install pyflow-client")
    stamina.instrumentation.set_on_retry_hooks(())  # the client says it in words of its own
    _notes()
    retries = pyflow_client.Retries(attempts=_ATTEMPTS, seconds=_SECONDS)
    try:
        client = pyflow_client.Client(profile.url, profile.key, retries=retries)
    except ValueError as error:
        fail(str(error))
    with client:
        try:
            yield client
        except pyflow_client.NotAuthenticated as error:
            advice = f"`pyflow remote login {profile.name}`" if profile.name != "environment" else "see PYFLOW_KEY"
            fail(f"{profile.url} refuses this key: {error.detail} ({advice})", ExitCode.REMOTE)
        except pyflow_client.ConnectionFailed as error:
            fail(f"{error}. Is {profile.url} the server, and does it run?", ExitCode.REMOTE)
        except pyflow_client.UnexpectedAnswer as error:
            fail(f"{error}. Is {profile.url} a PyFlow server?", ExitCode.REMOTE)
        except pyflow_client.EventsRemoved as error:
            fail(f"{error.detail}\n  the oldest event that is kept: `--after {error.oldest}`", ExitCode.REMOTE)
        except pyflow_client.ProblemError as error:
            _refused(error)


class _Notes(logging.Handler):
    """Warnings of the client, such as those about retries, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        err(record.getMessage())


def _notes() -> None:
    logger = logging.getLogger("pyflow_client")
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes())
        logger.propagate = False


def _refused(error: ProblemError) -> NoReturn:
    lines = [error.detail]
    for item in error.errors:
        place = item.pointer or "/"
        if item.line is not None:
            place = f"line {item.line}, column {item.column}" + (f" ({item.pointer})" if item.pointer else "")
        known = item.suggestion is None or f"{item.suggestion!r}?" in item.detail
        better = "" if known else f" (did you mean {item.suggestion!r}?)"
        lines.append(f"  {place}: {item.detail}{better}")
    # A server that broke says so in its log, under this id.
    if error.status >= 500 and error.request_id:
        lines.append(f"  request {error.request_id}")
    invalid = error.code in {"definition_invalid", "document_invalid"}
    fail("\n".join(lines), ExitCode.INVALID if invalid else ExitCode.REMOTE)
