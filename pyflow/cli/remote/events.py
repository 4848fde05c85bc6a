"""`pyflow remote events`: the events of the whole tenant as they happen."""

from __future__ import annotations

from itertools import islice
from typing import Annotated
from uuid import UUID

import typer

from pyflow.cli.console import err, out, to_json
from pyflow.cli.remote.connection import FormatOption, ProfileOption, connected
from pyflow.cli.remote.display import logged_line
from pyflow.cli.remote.runs import INTERRUPTED, LabelOption

#: Where following begins: with what comes next, or with the oldest event that is kept.
_NOW, _OLDEST = "now", "oldest"


def events(
    type: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this type; `run.*` for all that begin so. May be repeated."),
    ] = None,
    workflow: Annotated[
        list[str] | None,
        typer.Option("--workflow", metavar="NAME", help="Only events of this workflow. May be repeated."),
    ] = None,
    run: Annotated[UUID | None, typer.Option("--run", metavar="RUN", help="Only events of this run.")] = None,
    label: LabelOption = None,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", help="The `cursor` of an event, `now`, or `oldest`.")
    ] = _NOW,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many events.")] = None,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """Follow the events of all runs, workflows and triggers, one line per event (json: one object per line).

    The connection is renewed by itself, and no event is lost or repeated. `--after` with the `cursor` of the last event
    continues where another call was interrupted.
    """
    given = {"type": type, "workflow": workflow, "run": run and str(run), "label": label}
    place = after
    with connected(profile) as client:
        following = client.follow_events(
            None if after == _OLDEST else after, **{name: value for name, value in given.items() if value}
        )
        try:
            for event in islice(following, limit):
                place = event.cursor or place
                out(to_json(event.model_dump(mode="json")) if format == "json" else logged_line(event))
        except KeyboardInterrupt:
            if place != after:
                err(f"`pyflow remote events --after {place}` continues from here.")
            raise typer.Exit(INTERRUPTED) from None
