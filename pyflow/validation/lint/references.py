"""Collects all references of a workflow; for ``pyflow.validation.lint.rules``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyflow.core.document import Path
from pyflow.core.problems import suggest
from pyflow.documents.models import NodeDef, WorkflowDef
from pyflow.expressions.evaluation import UnsafeExpressionError
from pyflow.expressions.fields import leaves
from pyflow.expressions.references import Reference, references_in_expression, references_in_template
from pyflow.expressions.template import TemplateError, is_template, template_strings
from pyflow.validation.inputs import declared_inputs

#: A code, a message, and the place.
Finding = tuple[str, str, Path]
_MAPPINGS = frozenset({"secrets", "input", "nodes", "run"})


def references(workflow: WorkflowDef) -> Iterator[tuple[Path, Reference]]:
    """Every reference in a template or expression, with its place. Those that do not compile have none."""
    definition = workflow.model_dump(by_alias=True, exclude_none=True)
    for path, text in templates(definition):
        yield from ((path, each) for each in in_template(text))
    for path, text in expressions(definition):
        yield from ((path, each) for each in in_expression(text))


#: Parts of a workflow in which no template is rendered.
_NEVER = frozenset({"name", "description", "labels", "inputs", "vars"})


def in_template(text: str) -> Iterable[Reference]:
    """Return the references of a template; none, if it does not compile."""
    try:
        return references_in_template(text, _MAPPINGS)
    except TemplateError:
        return ()


def in_expression(text: str) -> Iterable[Reference]:
    """Return the references of an expression; none, if it does not compile."""
    try:
        return references_in_expression(text, _MAPPINGS)
    except UnsafeExpressionError:
        return ()


def templates(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """The templates of a workflow, as JSON data, with their places."""
    return template_strings({name: part for name, part in definition.items() if name not in _NEVER})


def expressions(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """The expressions of a workflow, as JSON data, with their places."""
    for section in ("nodes", "on_failure", "finally"):
        for i, node in enumerate(definition.get(section, ())):
            if "when" in node:
                yield (section, i, "when"), node["when"]
            if "item_when" in node:
                yield (section, i, "item_when"), node["item_when"]
            if "until" in node:
                yield (section, i, "until", "when"), node["until"]["when"]
            for at, part in (((), node), (("compensate",), node.get("compensate", {}))):
                if "when" in part.get("retry", {}):
                    yield (section, i, *at, "retry", "when"), part["retry"]["when"]
                source = part.get("config", {}).get("if") if part.get("type") == "condition" else None
                if isinstance(source, str) and not is_template(source):
                    yield (section, i, *at, "config", "if"), source
                if part.get("type") == "set":
                    yield from leaves(part.get("config", {}), (section, i, *at, "config"))


def secrets_used(workflow: WorkflowDef) -> list[str]:
    """The names of the secrets that the workflow refers to, sorted; ``*`` for a name that is computed."""
    named = {each.member or "*" for _, each in references(workflow) if each.name == "secrets"}
    return sorted(named | set(_secrets_of_webhooks(workflow)))


def _secrets_of_webhooks(workflow: WorkflowDef) -> Iterator[str]:
    """The secrets that verify senders, which are named without braces."""
    for trigger in workflow.triggers:
        verify = trigger.config.get("verify")
        name = verify.get("secret") if trigger.type == "webhook" and isinstance(verify, dict) else None
        if isinstance(name, str) and not is_template(name):
            yield name


def names_used(workflow: WorkflowDef) -> set[str]:
    """The names that are looked up, also those of ``nodes``; ``nodes`` itself if anything in it may be."""
    return {
        each.member if each.name == "nodes" and each.member is not None else each.name
        for _, each in references(workflow)
    }


def undeclared_input(workflow: WorkflowDef) -> Iterator[Finding]:
    """References to fields of the input that ``inputs`` does not know."""
    declared = declared_inputs(workflow.inputs or {})
    if declared is None:
        return
    for path, (name, member) in references(workflow):
        if name == "input" and member is not None and member not in declared:
            near = suggest(member, declared)
            hint = f" (did you mean {near!r}?)" if near else ""
            yield "undeclared_input", f"`inputs` declares no {member!r}{hint}", path


def unsteady_keys(path: Path, node: NodeDef) -> Iterator[Finding]:
    """Keys that are another one whenever they are looked at."""
    keys: dict[Path, str | None] = {("item_key",): node.item_key}
    keys |= {(name, "key"): part.key for name in ("cache", "concurrency") if (part := getattr(node, name)) is not None}
    for at, text in keys.items():
        # `now` stays the same for all items, and not for all runs.
        moving = {Reference("run", "now")} | ({Reference("now")} if at != ("item_key",) else set())
        found = moving & set(in_template(text)) if text is not None and is_template(text) else None
        if found:
            name = ".".join(map(str, at))
            moment = ".".join(filter(None, min(found)))
            message = f"a key with `{moment}` in it is never the same again: `{name}` of {node.id!r} has no effect"
            yield "unsteady_key", message, (*path, *at)


def no_error_yet(workflow: WorkflowDef) -> Iterator[Finding]:
    """``run.error`` where it is always ``null``."""
    for path, each in references(workflow):
        if each == Reference("run", "error") and path[0] == "nodes" and "compensate" not in path:
            yield "no_error_yet", "`run.error` is `null` until the run has failed: use it in `on_failure`", path


def masked_outputs(path: Path, node: NodeDef, used: set[str], *, computes: bool) -> Iterator[Finding]:
    """Find secrets in the output of a node that renders (or computes) its config: other nodes see them masked."""
    if node.id not in used:
        return
    place = (*path, "config")
    found = [(at, in_template(text)) for at, text in template_strings(node.config, place)]
    found += [(at, in_expression(text)) for at, text in leaves(node.config, place)] if computes else []
    for at, references in found:
        for name in sorted({each.member or "…" for each in references if each.name == "secrets"}):
            message = f"other nodes see `secrets.{name}` masked in the output of {node.id!r}: use it where it is needed"
            yield "masked_output", message, at


def unrendered(workflow: WorkflowDef) -> Iterator[Finding]:
    """Templates where none is rendered."""
    for name in ("vars", "labels"):
        for path, _ in template_strings(getattr(workflow, name), (name,)):
            yield "not_rendered", f"templates in `{name}` are not rendered", path
    for path, key in _keys(workflow.model_dump(by_alias=True, exclude_none=True), ()):
        if path and path[0] not in _NEVER:
            yield "not_rendered", f"{key!r} is the name of a field: templates are rendered in values only", (*path, key)


def _keys(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and is_template(key):
                yield path, key
            yield from _keys(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _keys(item, (*path, i))
