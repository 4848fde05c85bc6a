"""Says in our own words what in a value does not fit a pydantic model: the place and the rule, never the value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pyflow.core.errors import NodeError, NonRetryableError

if TYPE_CHECKING:  # a process for one node reads no documents
    from pyflow.core.document import Path

ModelT = TypeVar("ModelT", bound=BaseModel)

#: Nobody reads more of them in one message.
MAX_SHOWN = 5
#: Types of errors by their rules. What is in braces comes from the model, not from the value.
_RULES = {
    "missing": "is required",
    "extra_forbidden": "is unknown",
    "none_required": "must be null",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "union_tag_not_found": "needs {discriminator}",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
    "int_from_float": "must be an integer",
    "recursion_loop": "contains itself",
}
#: Whole families of types of errors, by their first word.
_KINDS = {
    "string": "text",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen": "a list",
    "iterable": "a list",
    "bytes": "bytes",
    "date": "a date",
    "datetime": "a time",
    "time": "a time",
    "timezone": "a time with an offset",
    "url": "a URL",
    "uuid": "a UUID",
    "json": "JSON text",
    "decimal": "a decimal number",
}
_MUST_BE = "must be "
_TEMPLATE = "must be a template"
#: Marks a value as a template.
_TEMPLATE_PATTERN = r"\{\{|\{%"


class ConfigInvalidError(NonRetryableError, ValueError):
    """The config of a node does not fit its type once its templates are rendered. Another attempt changes nothing."""

    code: ClassVar[str] = "config_invalid"


class OutputInvalidError(NodeError, ValueError):
    """The output of a node does not fit the model that its type declares."""

    code: ClassVar[str] = "output_invalid"


class Misfit:
    """One mistake: the ``kind`` of error, the place in the value (``at``), and which rule it breaks in words."""

    __slots__ = ("at", "detail", "kind", "rule")

    def __init__(self, at: Path, detail: ErrorDetails, rule: str | None = None) -> None:
        self.at = at
        self.detail = detail
        self.kind = detail["type"]
        self.rule = rule or rule_of(detail)

    def __str__(self) -> str:
        at = (*self.at, self.detail["loc"][-1]) if self.kind == "missing" else self.at
        return f"`{'.'.join(map(str, at))}` {self.rule}" if at else self.rule


def parse(model: type[ModelT], config: Any) -> ModelT:
    """``config`` as a model. Raises ``ConfigInvalidError``."""
    try:
        return model.model_validate(config)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # Its templates are rendered: to ask for one would be late.
        rest = [detail for detail in details if rule_of(detail) != _TEMPLATE] or details
        raise ConfigInvalidError(f"the config does not fit: {_listed(choose(rest, config))}") from None


def check_output(model: type[ModelT], output: Any) -> ModelT:
    """Check an output against the model that its node type declares. Raises ``OutputInvalidError``."""
    try:
        return model.model_validate(output)
    except ValidationError as error:
        raise OutputInvalidError(f"the output does not fit: {_listed(misfits(error, output))}") from None


def in_words(error: ValidationError) -> str:
    """An error that came out of somebody's code, in one line."""
    details = error.errors(include_url=False)
    return f"{error.title} does not fit: {_listed([Misfit(detail['loc'], detail) for detail in details])}"


def misfits(error: ValidationError, value: Any) -> list[Misfit]:
    """Each mistake in ``value`` once: of a union, what is wrong with the member that was meant."""
    return choose(error.errors(include_url=False), value)


def choose(details: Sequence[ErrorDetails], value: Any) -> list[Misfit]:
    """Choose the misfits to report from the details of an error."""
    return _chosen(details, 0, value, ())


def rule_of(detail: ErrorDetails) -> str:
    """Return the broken rule in words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error") or detail["msg"].removeprefix("Value error, "))
    is_template = kind == "string_type" and detail["loc"][-1:] == ("constrained-str",)
    if is_template or (kind == "string_pattern_mismatch" and context.get("pattern") == _TEMPLATE_PATTERN):
        return _TEMPLATE
    if (rule := _RULES.get(kind)) is not None:
        return rule.format_map(context)
    family = _KINDS.get(kind.partition("_")[0])
    return f"breaks the rule {kind!r}" if family is None else f"{_MUST_BE}{family}"


def _listed(found: Sequence[Misfit]) -> str:
    texts = [str(misfit) for misfit in found]
    more = [f"and {len(texts) - MAX_SHOWN} more"] if len(texts) > MAX_SHOWN else []
    return "; ".join([*texts[:MAX_SHOWN], *more])


def _chosen(details: Sequence[ErrorDetails], depth: int, value: Any, at: Path) -> list[Misfit]:
    """The mistakes in a value that stands at ``at``; ``details`` have the first ``depth`` steps of their places there.

    A step that the value does not have names a member of a union.
    """
    found: list[Misfit] = []
    below: dict[int | str, list[ErrorDetails]] = {}
    members: dict[int | str, list[ErrorDetails]] = {}
    for detail in details:
        loc = detail["loc"]
        if len(loc) <= depth + (detail["type"] == "missing"):
            found.append(Misfit(at, detail))
        elif _has(value, loc[depth]):
            below.setdefault(loc[depth], []).append(detail)
        else:
            members.setdefault(loc[depth], []).append(detail)
    for step, some in below.items():
        found += _chosen(some, depth + 1, value[step], (*at, step))
    if members:
        found += _meant([_chosen(some, depth + 1, value, at) for some in members.values()], at)
    return found


def _has(value: Any, step: int | str) -> bool:
    return (isinstance(value, Mapping) and step in value) or (
        isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
    )


def _meant(members: Sequence[list[Misfit]], at: Path) -> list[Misfit]:
    """Return the errors of the member of a union that was probably meant: the one that the value comes nearest to."""
    best = max(map(_nearness(at), members))
    nearest = [found for found in members if _nearness(at)(found) == best]
    if len(nearest) > 1 and all(len(found) == 1 and found[0].at == at for found in nearest):
        return [Misfit(at, nearest[0][0].detail, _joined([found[0].rule for found in nearest]))]
    return nearest[0]


def _nearness(at: Path) -> Callable[[list[Misfit]], tuple[int, int, int]]:
    def nearness(found: list[Misfit]) -> tuple[int, int, int]:
        tagged = any(misfit.kind == "literal_error" and len(misfit.at) == len(at) + 1 for misfit in found)
        own = [misfit for misfit in found if misfit.at == at and misfit.kind not in {"missing", "extra_forbidden"}]
        if not own:
            return (0 if tagged else 3), -len(found), 0  # it has the shape of this member
        wrong_kind = all(misfit.kind.endswith(("_type", "_parsing", "_from_float")) for misfit in own)
        return (1 if wrong_kind or any(misfit.rule == _TEMPLATE for misfit in own) else 2), 0, 0

    return nearness


def _joined(rules: Sequence[str]) -> str:
    """Several rules of which one has to be kept, as one."""
    unique = list(dict.fromkeys(rules))
    if all(rule.startswith(_MUST_BE) for rule in unique):
        kinds = [rule.removeprefix(_MUST_BE) for rule in unique]
        return _MUST_BE + " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
    return ", or ".join(unique)
