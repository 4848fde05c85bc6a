"""Workflow documents: read, checked, compared with what can be stored, and turned from YAML into JSON and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from plugins.discovery import discover
from pyflow.core.errors import DefinitionError, DocumentError, Problem
from pyflow.core.messages import show
from pyflow.core.problems import locate
from pyflow.documents.models import WorkflowDef
from pyflow.documents.reading import read_json, read_yaml
from pyflow.execution.plan import compile_plan
from pyflow.upgrade.yaml_text import write_yaml
from pyflow.validation.lint.rules import lint_workflow, secrets_used
from pyflow.validation.loader import Format, parse_workflow

MAX_NAME = 128
MAX_NODE_ID = 255
#: Words that stand where a name does in an address (`/workflows/validate`).
RESERVED_NAMES = frozenset({"validate", "dry-run", "schema"})
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a document. ``definition`` is ``None`` for one with problems."""

    definition: WorkflowDef | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


def check_document(source: str, source_format: Format) -> WorkflowDef:
    """The definition of a document that can be stored and run here. Raises ``DocumentError`` or ``DefinitionError``."""
    definition = parse_workflow(source, source_format)
    if problems := list(_not_storable(definition)):
        raise DefinitionError(locate(problems, definition._document))
    compile_plan(definition, discover().registry)
    return definition


def examine(source: str, source_format: Format) -> Verdict:
    """Everything that is wrong with a document or doubtful in it, and the secrets it uses; nothing is raised."""
    try:
        definition = check_document(source, source_format)
    except DefinitionError as error:
        return Verdict(problems=list(error.problems))
    except DocumentError as error:
        return Verdict(problems=[error.problem])
    return Verdict(definition, [], lint_workflow(definition, discover().registry), secrets_used(definition))


def canonical_text(definition: WorkflowDef) -> str:
    """The canonical definition as it is stored."""
    return json.dumps(definition.canonical(), ensure_ascii=False, separators=(",", ":"))


def converted(source: str, source_format: Format, to: Format) -> str:
    """A document that was accepted before, in the other format; in its own, byte for byte as it was sent."""
    if source_format == to:
        return source
    if to == "json":
        return json.dumps(read_yaml(source, scalars=None).data, indent=2, ensure_ascii=False) + "\n"
    return write_yaml(read_json(source).data, {})


def merged(source: str, source_format: Format, patch: Any) -> str:
    """A document with a JSON Merge Patch (RFC 7396) applied, in the same format. Comments of YAML are lost."""
    document = read_json(source) if source_format == "json" else read_yaml(source, scalars=None)
    data = _merge(document.data, patch)
    if source_format == "json" or not isinstance(data, dict):
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return write_yaml(data, {})


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def uuid_of(text: str) -> UUID | None:
    """The UUID that a text is, if it is one: workflows are addressed by name or by id."""
    return UUID(text) if _UUID.fullmatch(text) else None


def _not_storable(definition: WorkflowDef) -> Iterator[Problem]:
    """Return problems of what a file may say and a stored workflow, which has an address and rows, cannot."""
    name = definition.name
    if name in RESERVED_NAMES or _UUID.fullmatch(name):
        yield Problem("reserved_name", f"{name!r} means something else in an address; choose another name", "/name")
    if definition.version != 1:
        return
    if not name.strip() or len(name) > MAX_NAME or "/" in name or name in {".", ".."} or not name.isprintable():
        yield Problem(
            "bad_name", f"{show(name, 200)} cannot be part of an address: 1 to {MAX_NAME} characters, no '/'", "/name"
        )
    for i, node in enumerate(definition.nodes):
        if len(node.id) > MAX_NODE_ID:
            yield Problem("bad_node_id", f"a node id has at most {MAX_NODE_ID} characters", f"/nodes/{i}/id")
