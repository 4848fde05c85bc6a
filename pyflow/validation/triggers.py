"""Checks the configs of triggers (version 2): their fields, and the names that their templates may use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.problems import suggest
from pyflow.documents.models import TriggerDef, WorkflowDef
from pyflow.expressions.draws import DRAWS
from pyflow.expressions.evaluation import UnsafeExpressionError
from pyflow.expressions.references import Reference, references_in_expression, references_in_template
from pyflow.expressions.template import TemplateError, template_strings
from pyflow.triggers import events, hooks, schedule_config
from pyflow.validation.config_check import check_fields

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_CONSTANTS = frozenset({"true", "false", "null", "none", "True", "False", "None", "range", "dict"})
#: What the language computes for a node, and for nothing else.
_OF_NODES = {"now": "`now`, or `today()`", DRAWS: "`random()` or `uuid()`"}
_MAPPINGS = frozenset({"trigger", "run"})
#: Names of `run` in the answer of a webhook.
RUN_FACTS = frozenset({"id", "state", "outputs", "error"})


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of triggers: the model of its config, the facts that templates see, and where they may stand.

    ``templates`` and ``expressions`` are places in the config; of a template, everything below it, too.
    """

    model: type[BaseModel]
    facts: frozenset[str]
    templates: tuple[Path, ...]
    expressions: tuple[Path, ...] = ()
    #: Templates that also see `run`, as it ended.
    after_run: tuple[Path, ...] = ()


KINDS: Mapping[str, _Kind] = {
    "schedule": _Kind(schedule_config.ScheduleConfig, schedule_config.FACTS, (("input",),)),
    "webhook": _Kind(
        hooks.WebhookConfig,
        hooks.FACTS,
        (("input",),),
        after_run=(("answer", "status"), ("answer", "body")),
    ),
    "event": _Kind(
        events.EventConfig,
        events.FACTS,
        (("input",), ("key",), ("expect", "key")),
        (("when",), ("after", "when")),
    ),
}


def located_triggers(workflow: WorkflowDef) -> Iterator[tuple[Path, TriggerDef]]:
    """Each trigger with its place in the document."""
    if workflow.trigger is not None:
        yield ("trigger",), workflow.trigger
    for i, trigger in enumerate(workflow.triggers):
        yield ("triggers", i), trigger


def check_triggers(workflow: WorkflowDef) -> Iterator[Problem]:
    """Return what is wrong with the triggers of a version 2 document."""
    ids: set[str] = set()
    for path, trigger in located_triggers(workflow):
        if trigger.id is not None and trigger.id in ids:
            message = f"another trigger has the id {trigger.id!r}"
            yield Problem("duplicate_trigger_id", message, make_pointer((*path, "id")))
        ids.add(trigger.id or "")
        if trigger.id is not None and not _ID.fullmatch(trigger.id):
            message = f"{trigger.id!r} is no trigger id: letters, digits, '.', '_', '-', at most 128"
            yield Problem("bad_trigger_id", message, make_pointer((*path, "id")))
        kind = KINDS.get(trigger.type)
        if kind is not None:
            yield from _check_config(kind, trigger.config, (*path, "config"))
    yield from _check_paths(workflow)


def _check_config(kind: _Kind, config: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if kind is KINDS["webhook"] and "verify" not in config:
        message = (
            "a webhook needs `verify`: how senders prove who they are, such as"
            " `verify: {scheme: github, secret: NAME}`. `verify: {scheme: none}` accepts requests of anybody"
        )
        yield Problem("missing", message, make_pointer(path))
        config = {**config, "verify": {"scheme": "none"}}
    yield from check_fields(kind.model, config, path)
    for at, text in template_strings(dict(config)):
        if _is_below(at, kind.templates):
            yield from _check_template(text, kind.facts, (*path, *at))
        elif _is_below(at, kind.after_run):
            yield from _check_template(text, kind.facts, (*path, *at), run=True)
        elif at[:1] != ("verify",) and at not in kind.expressions:
            message = f"{at[-1]!r} of a trigger is no template: write its value"
            yield Problem("not_rendered", message, make_pointer((*path, *at)))
    for at in kind.expressions:
        source = _value_at(config, at)
        if isinstance(source, str):
            yield from _check_expression(source, kind.facts, (*path, *at))


def _check_template(text: str, facts: frozenset[str], path: Path, *, run: bool = False) -> Iterator[Problem]:
    try:
        found = references_in_template(text, _MAPPINGS)
    except TemplateError as error:
        yield Problem(error.code, str(error), make_pointer(path))
        return
    yield from _check_names(found, facts, path, run=run)


def _check_expression(source: str, facts: frozenset[str], path: Path) -> Iterator[Problem]:
    try:
        found = references_in_expression(source, _MAPPINGS)
    except UnsafeExpressionError as error:
        yield Problem(error.code, str(error), make_pointer(path))
        return
    yield from _check_names(found, facts, path)


def _check_names(
    found: Iterable[Reference], facts: frozenset[str], path: Path, *, run: bool = False
) -> Iterator[Problem]:
    names = {"trigger": facts} | ({"run": RUN_FACTS} if run else {})
    for name, member in sorted(found, key=lambda each: (each.name, each.member or "")):
        if name in _CONSTANTS:
            continue
        if name not in names:
            known = " and ".join(f"`{each}`" for each in names)
            message = f"the trigger uses {name!r}; what it computes sees {known} alone"
            if name in _OF_NODES:
                message = (
                    f"the trigger uses {_OF_NODES[name]}, which belongs to the nodes of a run: it sees {known} alone"
                )
            yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(name, names))
        elif member is not None and member not in names[name]:
            message = f"the trigger uses {member!r} of `{name}`, which does not exist"
            yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(member, names[name]))


def _check_paths(workflow: WorkflowDef) -> Iterator[Problem]:
    """A path that two webhooks of the document have."""
    seen: set[str] = set()
    for path, trigger in located_triggers(workflow):
        given = trigger.config.get("path")
        if trigger.type != "webhook" or not isinstance(given, str):
            continue
        if given.strip("/") in seen:
            message = f"another webhook of this workflow has the path {given.strip('/')!r}"
            yield Problem("duplicate_hook_path", message, make_pointer((*path, "config", "path")))
        seen.add(given.strip("/"))


def _is_below(at: Path, places: Iterable[Path]) -> bool:
    return any(at[: len(place)] == place for place in places)


def _value_at(config: Any, path: Path) -> Any:
    for step in path:
        config = config.get(step) if isinstance(config, Mapping) else None
    return config
