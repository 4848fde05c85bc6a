"""Differences between two definitions of a workflow: by their meaning, and as a JSON Patch (RFC 6902).

Both take canonical definitions (``WorkflowDef.canonical()``). Nodes are identified by their ids, so a node that only
moved in the file has not changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyflow.core.document import make_pointer
from pyflow.core.messages import cut

__all__ = ["Change", "Changed", "Diff", "Element", "Elements", "compare", "json_patch"]

Definition = Mapping[str, Any]
Edge = tuple[str, str]

#: Where nodes are.
SECTIONS = ("nodes", "on_failure", "finally")
#: What is compared key by key.
FIELDS = ("labels", "inputs", "outputs", "vars", "settings")
_KNOWN = frozenset({*SECTIONS, *FIELDS, "trigger", "triggers"})
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. ``pointer`` is a JSON Pointer (RFC 6901) to it; a list that differs is one thing."""

    kind: Literal["added", "removed", "changed"]
    pointer: str
    before: Any = None
    after: Any = None

    def as_dict(self) -> dict[str, Any]:
        """``{kind, pointer, before, after}``, without ``before`` of what is added and ``after`` of what is removed."""
        before = {} if self.kind == "added" else {"before": self.before}
        after = {} if self.kind == "removed" else {"after": self.after}
        return {"kind": self.kind, "pointer": self.pointer, **before, **after}


@dataclass(frozen=True, slots=True)
class Element:
    """A node, with its ``section``, or a trigger, with its ``config``. A trigger without an id has that of its type."""

    id: str
    body: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """``{id, type, section}`` of a node, ``{id, type, config}`` of a trigger."""
        rest = {"section": self.body["section"]} if "section" in self.body else {"config": self.body.get("config", {})}
        return {"id": self.id, "type": self.body["type"], **rest}


@dataclass(frozen=True, slots=True)
class Changed:
    """A node or a trigger that both definitions have, and how it differs; pointers lead into it."""

    element: Element
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        """``{id, type, …, changes}``: the element as it is afterwards."""
        return self.element.as_dict() | {"changes": [change.as_dict() for change in self.changes]}


@dataclass(frozen=True, slots=True)
class Elements:
    """Nodes or triggers that only one definition has, or that differ."""

    added: tuple[Element, ...] = ()
    removed: tuple[Element, ...] = ()
    changed: tuple[Changed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def as_dict(self) -> dict[str, Any]:
        """``{added, removed, changed}``."""
        return {
            "added": [element.as_dict() for element in self.added],
            "removed": [element.as_dict() for element in self.removed],
            "changed": [changed.as_dict() for changed in self.changed],
        }

    def only(self, type: str) -> Elements:
        """Return the elements that have a type now or, if they were removed, had it."""
        return Elements(
            tuple(element for element in self.added if element.body["type"] == type),
            tuple(element for element in self.removed if element.body["type"] == type),
            tuple(changed for changed in self.changed if changed.element.body["type"] == type),
        )


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences between two definitions.

    ``edges`` are pairs of ids: the second waits for the first. ``reordered`` names the sections whose nodes stand in
    another order. ``document`` has what is said of the workflow as a whole: name, description, version of the format.
    """

    nodes: Elements
    triggers: Elements
    edges_added: tuple[Edge, ...]
    edges_removed: tuple[Edge, ...]
    reordered: tuple[str, ...]
    document: tuple[Change, ...]
    fields: Mapping[str, tuple[Change, ...]]

    @property
    def identical(self) -> bool:
        """Return whether nothing differs."""
        elsewhere = self.edges_added or self.edges_removed or self.reordered or self.document
        return not (self.nodes or self.triggers or elsewhere or any(self.fields.values()))

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "identical": self.identical,
            "document": [change.as_dict() for change in self.document],
            "nodes": self.nodes.as_dict(),
            "edges": {"added": _pairs(self.edges_added), "removed": _pairs(self.edges_removed)},
            "triggers": self.triggers.as_dict(),
            **{name: [change.as_dict() for change in changes] for name, changes in self.fields.items()},
            "reordered": list(self.reordered),
        }

    def lines(self) -> Iterator[str]:
        """The same for people: ``+`` is added, ``-`` removed, ``~`` changed."""
        yield from (_line(change, change.pointer[1:]) for change in self.document)
        for name, changes in self.fields.items():
            yield from (_line(change, f"{name}{change.pointer}") for change in changes)
        yield from _lines("trigger", self.triggers)
        yield from _lines("node", self.nodes)
        yield from (f"- edge {source} -> {target}" for source, target in self.edges_removed)
        yield from (f"+ edge {source} -> {target}" for source, target in self.edges_added)
        yield from (f"~ {section} in another order" for section in self.reordered)


def compare(before: Definition, after: Definition) -> Diff:
    """Compare two definitions: what was added, removed and changed. Takes time linear in their sizes."""
    ours, theirs = _nodes(before), _nodes(after)
    edges_before, edges_after = list(_edges(ours)), list(_edges(theirs))
    known_before, known_after = set(edges_before), set(edges_after)
    return Diff(
        nodes=_elements(ours, theirs, hidden={"id", "depends_on"}),
        triggers=_elements(_triggers(before), _triggers(after), hidden={"id"}),
        edges_added=tuple(edge for edge in edges_after if edge not in known_before),
        edges_removed=tuple(edge for edge in edges_before if edge not in known_after),
        reordered=tuple(_reordered(before, after)),
        document=tuple(_changes(_about(before), _about(after))),
        fields={name: tuple(_changes(before.get(name) or {}, after.get(name) or {})) for name in FIELDS},
    )


def json_patch(before: Definition, after: Definition) -> list[dict[str, Any]]:
    """The operations (RFC 6902) that make ``after`` of ``before``.

    Nodes are removed, moved and added one by one, by their ids; any other list that differs is replaced as a whole.
    The library ``jsonpatch`` compares lists item by item: for two definitions of 200 KiB it takes 16 s and makes 63,000
    operations of 4.6 MiB, where this takes 0.4 ms and makes one. Patches are only made here, and none is applied.
    """
    operations: list[dict[str, Any]] = []
    for change in _changes(before, after):
        key = change.pointer[1:]
        if change.kind == "changed" and key in SECTIONS:
            operations += _patch_of_nodes(change.pointer, before[key], after[key])
        else:
            operations.append(_operation(change))
    return operations


def _operation(change: Change) -> dict[str, Any]:
    name = {"added": "add", "removed": "remove", "changed": "replace"}[change.kind]
    return {"op": name, "path": change.pointer} | ({} if change.kind == "removed" else {"value": change.after})


def _patch_of_nodes(
    pointer: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    bodies = {node["id"]: node for node in before}
    ids, wanted = list(bodies), {node["id"] for node in after}
    for index in reversed(range(len(ids))):
        if ids[index] not in wanted:
            yield {"op": "remove", "path": f"{pointer}/{index}"}
            del ids[index]
    for index, node in enumerate(after):
        known = bodies.get(node["id"])
        if known is None:
            ids.insert(index, node["id"])
            yield {"op": "add", "path": f"{pointer}/{index}", "value": node}
            continue
        at = ids.index(node["id"], index)
        if at != index:
            ids.insert(index, ids.pop(at))
            yield {"op": "move", "from": f"{pointer}/{at}", "path": f"{pointer}/{index}"}
        yield from (_operation(change) for change in _changes(known, node, f"{pointer}/{index}"))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], pointer: str = "") -> Iterator[Change]:
    for key in dict.fromkeys([*before, *after]):
        at = pointer + make_pointer((key,))
        if key not in after:
            yield Change("removed", at, before=before[key])
        elif key not in before:
            yield Change("added", at, after=after[key])
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            yield from _changes(before[key], after[key], at)
        elif not _same(before[key], after[key]):
            yield Change("changed", at, before[key], after[key])


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON, to which ``true`` is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _elements(before: Mapping[str, Element], after: Mapping[str, Element], *, hidden: set[str]) -> Elements:
    changed = []
    for id, element in after.items():
        if id in before:
            ours, theirs = (_without(body, hidden) for body in (before[id].body, element.body))
            if changes := tuple(_changes(ours, theirs)):
                changed.append(Changed(element, changes))
    return Elements(
        tuple(element for id, element in after.items() if id not in before),
        tuple(element for id, element in before.items() if id not in after),
        tuple(changed),
    )


def _without(body: Mapping[str, Any], hidden: set[str]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in hidden}


def _nodes(definition: Definition) -> dict[str, Element]:
    return {
        node["id"]: Element(node["id"], {**node, "section": section})
        for section in SECTIONS
        for node in definition.get(section, ())
    }


def _triggers(definition: Definition) -> dict[str, Element]:
    """By id or, without one, by type, counting those after the first: ``schedule``, ``schedule-2``."""
    if "trigger" in definition:
        written: Sequence[Mapping[str, Any]] = [definition["trigger"]]
    else:
        written = definition.get("triggers") or [{"type": "manual"}]
    seen: Counter[str] = Counter()
    found = {}
    for trigger in written:
        name = trigger.get("id") or trigger["type"]
        seen[name] += 1
        id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        found[id] = Element(id, trigger)
    return found


def _edges(nodes: Mapping[str, Element]) -> Iterator[Edge]:
    for id, node in nodes.items():
        yield from ((source, id) for source in dict.fromkeys(node.body.get("depends_on", ())))


def _reordered(before: Definition, after: Definition) -> Iterator[str]:
    for section in SECTIONS:
        ours = [node["id"] for node in before.get(section, ())]
        theirs = [node["id"] for node in after.get(section, ())]
        both = set(ours) & set(theirs)
        if [id for id in ours if id in both] != [id for id in theirs if id in both]:
            yield section


def _about(definition: Definition) -> dict[str, Any]:
    about = {key: value for key, value in definition.items() if key not in _KNOWN}
    return {"version": 1} | about


def _pairs(edges: Iterable[Edge]) -> list[dict[str, str]]:
    return [{"from": source, "to": target} for source, target in edges]


def _lines(word: str, elements: Elements) -> Iterator[str]:
    yield from (f"- {word} {element.id} ({element.body['type']})" for element in elements.removed)
    yield from (f"+ {word} {element.id} ({element.body['type']})" for element in elements.added)
    for changed in elements.changed:
        yield f"~ {word} {changed.element.id}"
        yield from (f"    {_line(change, change.pointer[1:])}" for change in changed.changes)


def _line(change: Change, place: str) -> str:
    if change.kind == "added":
        return f"+ {place}: {_shown(change.after)}"
    if change.kind == "removed":
        return f"- {place}: {_shown(change.before)}"
    return f"~ {place}: {_shown(change.before)} -> {_shown(change.after)}"


def _shown(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False), _SHOWN)
