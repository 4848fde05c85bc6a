"""Upgrades v1 workflows to version 2, with the same results, and says where the two differ.

Dependents of a v1 node start however it ended, unless the run was stopped. Version 2 has no word for exactly that, so
``run_if`` and ``when`` are chosen by how each dependency can end, and where that is not enough small nodes are put in
between: ``X_done`` waits for X whatever becomes of it, ``X_due`` evaluates a ``when`` that may fail.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pyflow.core.document import Document, Path, make_pointer
from pyflow.core.duration import MAX_SECONDS
from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.node import NodeRegistry
from pyflow.documents.models import NodeDef, OnError, RetryDef, WorkflowDef
from pyflow.documents.node_keys import kind_of, why_refused
from pyflow.execution.retry import V1_DELAY, V1_MAX_RETRIES
from pyflow.expressions.template import is_template, template_strings
from pyflow.upgrade.graph import Draft, Kind, arrange
from pyflow.upgrade.values import (
    Rename,
    expression_names,
    keep_text,
    map_strings,
    rewrite_expression,
    rewrite_template,
    template_names,
)
from pyflow.upgrade.yaml_text import comments_of, plain_scalars, read_core, write_yaml
from pyflow.validation.checker import RESERVED_NAMES, check_workflow
from pyflow.validation.loader import Format, parse_workflow

__all__ = ["Conversion", "ConversionError", "Note", "convert"]

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_BUILT_IN = {"__run_id__": "id", "__workflow__": "workflow", "__now__": "now"}
_WORKFLOW_KEYS = frozenset({"version", "name", "description", "labels", "trigger", "nodes"})
_NODE_KEYS = ("id", "type", "depends_on", "when", "on_error", "retry", "config", "description")
#: What v1's nodes looked at. Other keys had no effect, and may have one now.
_CONFIG_KEYS = {
    "http": {"url", "method", "headers", "body", "timeout", "raise_for_status", "max_response_size",
             "allow_private_networks", "follow_redirects"},
    "alert": {"webhook_url", "message", "allow_private_networks"},
    "condition": {"if"},
    "transform": {"input", "expression"},
    "storage": {"path", "action", "data"},
}  # fmt: skip
#: Where version 2 wants a number or a truth value, and v1 made one of text.
_TYPED_KEYS = {
    "http": {"raise_for_status", "max_response_size", "allow_private_networks", "follow_redirects"},
    "alert": {"allow_private_networks"},
}
MAX_ATTEMPTS = 1000


class ConversionError(DefinitionError):
    """A workflow that version 2 cannot express, or that is version 2 already. ``problems`` says what is in the way."""

    code = "not_convertible"


@dataclass(frozen=True, slots=True)
class Note:
    """One place where version 2 differs from v1.

    ``kind``: ``kept`` (written differently so that it means the same), ``changed`` (it does not mean the same), or
    ``dropped`` (v1 ignored it). ``pointer``, ``line`` and ``column`` are those of the v1 document.
    """

    code: str
    kind: Kind
    message: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """``{code, kind, detail, pointer, line?, column?}``."""
        shape: dict[str, Any] = {"code": self.code, "kind": self.kind, "detail": self.message, "pointer": self.pointer}
        if self.line is not None:
            shape |= {"line": self.line, "column": self.column}
        return shape


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted workflow: its definition, the same as YAML, and the notes in the order of the v1 document."""

    workflow: WorkflowDef
    text: str
    notes: tuple[Note, ...]


def convert(source: str, registry: NodeRegistry, format: Format = "yaml") -> Conversion:
    """Upgrade the text of a v1 workflow.

    Raises ``DocumentError`` or ``DefinitionError`` for text that is no workflow, ``ConversionError`` for one that
    cannot be converted.
    """
    workflow = parse_workflow(source, format)
    if workflow.version != 1:
        raise ConversionError([Problem("already_version_2", "the workflow is version 2 already", "/version")])
    problems = check_workflow(workflow, registry)
    if problems:
        raise DefinitionError(problems)
    assert workflow._document is not None  # noqa: S101 - it was parsed
    return _Converter(workflow, workflow._document, registry, format).convert()


class _Converter:
    def __init__(self, workflow: WorkflowDef, document: Document, registry: NodeRegistry, format: Format) -> None:
        self._workflow = workflow
        self._document = document
        self._registry = registry
        self._format = format
        self._notes: list[Note] = []
        self._ids = _new_ids([node.id for node in workflow.nodes])

    def _note(self, code: str, kind: Kind, message: str, path: Path) -> None:
        pointer = make_pointer(path)
        line, column = self._document.position(pointer)
        self._notes.append(Note(code, kind, message, pointer, line, column))

    def convert(self) -> Conversion:
        self._note_scalars()
        data = self._head()
        needs = self._dependencies()
        drafts = arrange([self._draft(i, node, needs[i]) for i, node in enumerate(self._workflow.nodes)], self._note)
        data["nodes"] = [self._node(draft) for draft in drafts]
        if any(not draft.tolerant for draft in drafts if not draft.helper):
            message = (
                "a node that fails with `on_error: stop` fails the run: `pyflow run` exits with 1, v1 always with 0"
            )
            self._note("run_fails", "changed", message, ("nodes",))
        text = write_yaml(data, self._comments(drafts))
        return Conversion(self._checked(text, drafts), text, self._sorted_notes())

    def _comments(self, drafts: list[Draft]) -> dict[str | int | None, list[str]]:
        """The comments of the source by where they go in the result."""
        if self._format != "yaml":
            return {}
        raw = self._document.data
        where: dict[str | int | None, str | int | None] = {
            draft.origin: index for index, draft in enumerate(drafts) if not draft.helper
        }
        # What stands above the first line stays there; what belonged to a key that is dropped goes to the end.
        where |= {key: key if key in _WORKFLOW_KEYS else None for key in raw} | {next(iter(raw)): "version"}
        placed: dict[str | int | None, list[str]] = {}
        for key, lines in comments_of(self._document).items():
            placed.setdefault(where.get(key), []).extend(lines)
        return placed

    def _sorted_notes(self) -> tuple[Note, ...]:
        unique = dict.fromkeys(self._notes)
        return tuple(sorted(unique, key=lambda note: (note.line or 0, note.column or 0)))

    def _checked(self, text: str, drafts: list[Draft]) -> WorkflowDef:
        """The model of the result, if version 2 accepts it; complaints are about the place in the v1 document."""
        try:
            workflow = parse_workflow(text)
            problems = check_workflow(workflow, self._registry)
        except DefinitionError as error:
            workflow, problems = self._workflow, list(error.problems)
        if problems:
            raise ConversionError([self._at_source(problem, drafts) for problem in problems])
        return workflow

    def _at_source(self, problem: Problem, drafts: list[Draft]) -> Problem:
        steps = problem.pointer.split("/")
        if len(steps) > 2 and steps[1] == "nodes":
            steps[2] = str(drafts[int(steps[2])].origin)
        pointer = "/".join(steps)
        line, column = self._document.position(pointer)
        return replace(problem, pointer=pointer, line=line, column=column)

    # --- what is not a node

    def _head(self) -> dict[str, Any]:
        raw = self._document.data
        for key in raw:
            if key not in _WORKFLOW_KEYS:
                self._note("unknown_key", "dropped", f"v1 ignored the key {key!r}", (key,))
        data: dict[str, Any] = {"version": 2}
        for key in raw:
            if key in _WORKFLOW_KEYS - {"version", "nodes"}:
                data[key] = _plain(raw[key])
        data["name"] = self._name(self._workflow.name)
        for key in [key for key in data["trigger"] if key not in {"type", "config", "id"}]:
            self._note("unknown_key", "dropped", f"v1 ignored the key {key!r}", ("trigger", key))
            del data["trigger"][key]
        self._open_webhook(data)
        return data

    def _open_webhook(self, data: dict[str, Any]) -> None:
        """Write that anybody may call a webhook, which version 1 did not need to be told, and give it a path."""
        trigger = data.get("trigger") or {}
        if trigger.get("type") != "webhook":
            return
        config = trigger.setdefault("config", {})
        if "verify" not in config:
            config["verify"] = {"scheme": "none"}
            message = "anybody may call the webhook, as in v1: another `scheme` of `verify` accepts known senders only"
            self._note("webhook_open", "changed", message, ("trigger",))
        if not str(config.get("path", "/")).strip("/"):
            config["path"] = data["name"]
            message = f"the path of the webhook is {data['name']!r}: version 2 has none that is empty"
            self._note("webhook_path", "changed", message, ("trigger",))

    def _name(self, name: str) -> str:
        if _NAME.fullmatch(name):
            return name
        changed = re.sub(r"[^A-Za-z0-9_.-]+", "-", name, flags=re.ASCII).strip("-.")[:128] or "workflow"
        self._note("renamed", "changed", f"the workflow is called {changed!r}: {name!r} is no name any more", ("name",))
        return changed

    def _note_scalars(self) -> None:
        """Values that YAML 1.1 (v1) and 1.2 (version 2) read differently. They are written as v1 read them."""
        if self._format != "yaml":
            return
        for path, text in plain_scalars(self._document.source):
            old = _at(self._document.data, path)
            new = read_core(text)
            if type(old) is type(new) and old == new:
                continue
            if isinstance(old, datetime.date):
                message = f"v1 gave nodes the date {old.isoformat()}; version 2 has no dates in YAML, so it is text now"
                self._note("yaml_scalar", "changed", message, path)
            else:
                message = f"`{text}` was read as {old!r} by v1's YAML 1.1, and is written as that; now it is {new!r}"
                self._note("yaml_scalar", "kept", message, path)

    # --- nodes

    def _dependencies(self) -> list[list[str]]:
        """``depends_on`` of each node, with the nodes that it refers to without depending on them."""
        nodes = self._workflow.nodes
        index = {node.id: i for i, node in enumerate(nodes)}
        needs = [list(dict.fromkeys(node.depends_on)) for node in nodes]
        problems: list[Problem] = []
        for i, node in enumerate(nodes):
            for path, name in self._references(node):
                # A node called like one of the scope's names is that name to those before it.
                if name not in index or name in RESERVED_NAMES or index[name] in _upstream(i, needs, index):
                    continue
                at: Path = ("nodes", i, *path)
                if index[name] == i or i in _upstream(index[name], needs, index):
                    message = f"{node.id!r} uses {name!r}, which comes after it: that never had a value"
                    line, column = self._document.position(make_pointer(at))
                    problems.append(Problem("not_upstream", message, make_pointer(at), line, column))
                    continue
                needs[i].append(name)
                message = f"{node.id!r} uses {name!r} and now depends on it; in v1 it was luck which of them came first"
                self._note("added_dependency", "changed", message, at)
        if problems:
            raise ConversionError(problems)
        return needs

    @staticmethod
    def _references(node: NodeDef) -> Iterator[tuple[Path, str]]:
        for path, text in template_strings(node.config):
            yield from ((("config", *path), name) for name in sorted(template_names(text)))
        if node.when is not None:
            yield from ((("when",), name) for name in sorted(expression_names(node.when) or ()))
        if (expression := _condition_of(node)) is not None:
            yield from ((("config", "if"), name) for name in sorted(expression_names(expression) or ()))

    def _draft(self, i: int, node: NodeDef, needs: list[str]) -> Draft:
        at: Path = ("nodes", i)
        if self._ids[node.id] != node.id:
            message = f"the node {node.id!r} is called {self._ids[node.id]!r}: its id is reserved or no id any more"
            self._note("renamed", "changed", message, (*at, "id"))
        rename = self._rename(i, at)
        config = self._known_config(node, at)
        typed = _TYPED_KEYS.get(node.type, set())
        for path, text in template_strings(config):
            self._note_text(text, (*at, "config", *path), typed=path[0] in typed)
        changed = map_strings(_plain(config), lambda text: rewrite_template(text, rename))
        for key in typed & config.keys():
            changed[key] = map_strings(config[key], lambda text: rewrite_template(text, rename, typed=True))
        if (expression := _condition_of(node)) is not None:
            changed["if"] = rewrite_expression(expression, rename)
        return Draft(
            self._ids[node.id],
            node.type,
            changed,
            [self._ids[name] for name in needs],
            i,
            when=None if node.when is None else rewrite_expression(node.when, rename).strip(),
            tolerant=node.on_error is not OnError.STOP,
        )

    def _rename(self, i: int, at: Path) -> Rename:
        index = {node.id: position for position, node in enumerate(self._workflow.nodes)}
        upstream = _upstream(i, [node.depends_on for node in self._workflow.nodes], index)

        def rename(name: str, in_expression: bool) -> str | None:
            if name in _BUILT_IN:
                key = _BUILT_IN[name]
                how = ", which ends in `Z` instead of `+00:00`" if name == "__now__" else ""
                self._note("built_in_name", "kept", f"`{name}` is `run.{key}` now{how}", at)
                return f"run[{key!r}]" if in_expression else f"run.{key}"
            new = self._ids.get(name, name)
            # What is not upstream cannot be meant, except by a name that was free to be an id.
            return new if new != name and (index[name] in upstream or name not in RESERVED_NAMES) else None

        return rename

    def _note_text(self, text: str, at: Path, *, typed: bool) -> None:
        if typed:
            message = f"{text} gave text in v1, which is true unless empty; now it keeps its type"
            self._note("typed_option", "changed", message, at)
        elif keep_text(text) != text:
            message = f"{text} gave text in v1 and would keep its type: `| string` keeps the text"
            self._note("template_text", "kept", message, at)

    def _known_config(self, node: NodeDef, at: Path) -> dict[str, Any]:
        """The config without keys that a built-in node ignored in v1."""
        known = _CONFIG_KEYS.get(node.type)
        if known is None or not self._registry.get(node.type).__module__.startswith("pyflow.nodes."):
            return node.config
        if node.type == "http" and str(node.config.get("method", "GET")).upper() not in {"GET", "HEAD"}:
            message = (
                f"{node.id!r} sends an `Idempotency-Key` header in version 2, so that its service can detect retries"
            )
            self._note("idempotency_key", "changed", message, at)
        for key in sorted(node.config.keys() - known):
            self._note("unknown_key", "dropped", f"the {node.type!r} node ignored {key!r}", (*at, "config", key))
        return {key: value for key, value in node.config.items() if key in known}

    def _node(self, draft: Draft) -> dict[str, Any]:
        raw = self._document.data["nodes"][draft.origin]
        at: Path = ("nodes", draft.origin)
        parts: dict[str, Any] = {"id": draft.id, "type": draft.type}
        if draft.depends_on:
            parts["depends_on"] = draft.depends_on
        if draft.run_if is not None:
            parts["run_if"] = draft.run_if
        if draft.when is not None:
            parts["when"] = draft.when
        if draft.tolerant:
            parts["on_error"] = "skip"
        if draft.helper:
            return {**parts, "config": draft.config}
        if retry := self._retry(self._workflow.nodes[draft.origin], at):
            parts["retry"] = retry
        if draft.config or "config" in raw:
            parts["config"] = self._matches(draft, at) if draft.type == "transform" else draft.config
        if raw.get("description") is not None:
            parts["description"] = raw["description"]
        for key in raw:
            if key not in _NODE_KEYS:
                self._note("unknown_key", "dropped", f"v1 ignored the key {key!r}", (*at, key))
        return _in_order_of(parts, raw)

    def _matches(self, draft: Draft, at: Path) -> dict[str, Any]:
        """The config of a `transform` node that gives of one match, of many and of none what v1 gave."""
        expression = draft.config.get("expression")
        if not isinstance(expression, str):
            return draft.config
        # Imported here: it is slow to load, and few files to convert have such a node.
        from pyflow.expressions.jsonpath import JsonPathError, is_singular  # noqa: PLC0415

        try:
            leads_to_one = is_template(expression) or is_singular(expression)
        except JsonPathError:
            return draft.config  # it fails, as it did
        kept: dict[str, Any] = {"default": []}
        if is_template(expression):
            kept["unwrap"] = True
        elif not leads_to_one:
            kept = {"unwrap": True}
        elif expression.strip() == "$":
            return draft.config
        message = f"`{'`, `'.join(kept)}`: {draft.id!r} gives one match bare, and `[]` where there is none, as in v1"
        self._note("transform_matches", "kept", message, (*at, "config", "expression"))
        return draft.config | kept

    def _retry(self, node: NodeDef, at: Path) -> dict[str, Any] | None:
        if node.on_error is not OnError.RETRY:
            if node.retry is not None:
                message = "v1 retried with `on_error: retry` only, so `retry` had no effect here"
                self._note("retry_ignored", "dropped", message, (*at, "retry"))
            return None
        refused = (
            None if node.type not in self._registry else why_refused("retry", kind_of(self._registry.get(node.type)))
        )
        if refused is not None:
            message = f"`on_error: retry` is `on_error: skip`; v1 did not repeat it either: {refused}"
            self._note("retry_ignored", "dropped", message, (*at, "on_error"))
            return None
        given = node.retry or RetryDef()
        retries = V1_MAX_RETRIES if given.max_retries is None else given.max_retries
        delay = V1_DELAY if given.delay is None else given.delay
        attempts = min(retries + 1, MAX_ATTEMPTS)
        message = "`on_error: retry` is `retry` with `on_error: skip` for what follows the last attempt"
        self._note("on_error_retry", "kept", message, (*at, "on_error"))
        if attempts < retries + 1:
            self._note("retries_capped", "changed", f"at most {MAX_ATTEMPTS} attempts are made", (*at, "retry"))
        # v1's waits were doubled without an end.
        longest = min(delay * 2.0 ** min(attempts, 64), MAX_SECONDS)
        return {
            "max_attempts": attempts,
            "initial_interval": _seconds(min(delay, MAX_SECONDS)),
            "backoff_coefficient": 2,
            "max_interval": _seconds(longest),
        }


def _condition_of(node: NodeDef) -> str | None:
    """The expression of a ``condition`` node that is not made by a template."""
    expression = node.config.get("if") if node.type == "condition" else None
    return expression if isinstance(expression, str) and not is_template(expression) else None


def _new_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return the version 2 id of each v1 id: the same wherever that is possible."""
    ids = list(ids)
    taken = {name for name in ids if _ID.fullmatch(name) and name not in RESERVED_NAMES}
    chosen: dict[str, str] = {}
    for name in ids:
        new = name
        if name not in taken:
            base = re.sub(r"[^A-Za-z0-9_-]+", "_", name, flags=re.ASCII)[:100]
            base = f"{base}_node" if base in RESERVED_NAMES else base
            base = base if _ID.fullmatch(base) else f"node_{base}"
            new, number = base, 2
            while new in taken:
                new, number = f"{base}_{number}", number + 1
            taken.add(new)
        chosen[name] = new
    return chosen


def _upstream(i: int, needs: list[list[str]], index: dict[str, int]) -> set[int]:
    found: set[int] = set()
    todo = [i]
    while todo:
        for name in needs[todo.pop()]:
            if index[name] not in found:
                found.add(index[name])
                todo.append(index[name])
    return found


def _in_order_of(parts: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """The parts in the order in which the source has them; new ones after what they belong to."""
    keys = [key for key in raw if key in parts]
    for key, anchors in (("depends_on", ("type",)), ("run_if", ("depends_on",)), ("when", ("run_if", "depends_on")),
                         ("on_error", ("when",)), ("retry", ("on_error",))):  # fmt: skip
        if key in parts and key not in keys:
            anchor = next((keys.index(name) + 1 for name in anchors if name in keys), len(keys))
            keys.insert(anchor, key)
    return {key: parts[key] for key in keys}


def _seconds(value: float) -> str | float:
    text = f"{value:.10g}"
    return f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else value


def _plain(value: Any) -> Any:
    """Dates, which YAML 1.1 has, as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data
