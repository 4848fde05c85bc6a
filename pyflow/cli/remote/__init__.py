"""`pyflow remote`: a PyFlow server from the command line. It needs the distribution ``pyflow-client``."""

from __future__ import annotations

from collections.abc import Callable

import typer

from pyflow.cli.remote import accounts, events, runs, verbs, workflows

#: The commands in the order of the help.
COMMANDS: dict[str, Callable[..., None]] = {
    "login": accounts.login,
    "logout": accounts.logout,
    "profiles": accounts.profiles,
    "use": accounts.use,
    "whoami": accounts.whoami,
    "push": workflows.push,
    "workflows": workflows.list_workflows,
    "run": runs.run,
    "runs": runs.list_runs,
    "get": runs.get,
    "watch": runs.watch,
    "logs": runs.logs,
    "events": events.events,
    "explain": verbs.explain,
    "cancel": verbs.cancel,
    "terminate": verbs.terminate,
    "pause": verbs.pause,
    "resume": verbs.resume,
    "retry": verbs.retry,
    "rerun": verbs.rerun,
    "signal": verbs.signal,
    "approvals": verbs.approvals,
}


def _group() -> None:
    """Use the workflows and runs of a server. Log in with `pyflow remote login`, or set PYFLOW_URL and PYFLOW_KEY.

    Exit codes: 0 it worked; 1 the run that was waited for did not succeed; 2 wrong usage; 3 the definition is invalid;
    4 the server is away, or refuses.
    """


app = typer.Typer(name="remote", no_args_is_help=True, rich_markup_mode=None, callback=_group)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
