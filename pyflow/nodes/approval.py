"""The ``approval`` node: waits for somebody's decision."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from pyflow.core.errors import ErrorCategory, NonRetryableError, Problem
from pyflow.core.suspension import Signal, Suspension, WaitKind
from pyflow.core.traits import NodeTraits
from pyflow.expressions.template import is_template
from pyflow.nodes.fields import AnyValue, NodeConfig, NodeOutput, Seconds, TemplateText
from pyflow.nodes.schemas import as_text, checked_schema, mismatches
from pyflow.nodes.waiting import WaitingNode, end_of, nothing_came, signal_name
from pyflow_sdk.node import NodeContext

MAX_COMMENT = 10_000
_KEYS = ("approved", "by", "on_behalf_of", "comment", "data")
#: The kinds of names in ``assignees``: members (also without a kind), roles, and API keys by their name.
_ASSIGNEE = re.compile(r"(?:user|key):.*\S.*|role:(?:viewer|editor|admin|owner)|[^:]*[^:\s][^:]*", re.DOTALL)


class DecisionError(NonRetryableError, ValueError):
    """The decision does not have the form that the approval needs. ``problems`` lists all errors."""

    code: ClassVar[str] = "decision_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"not a decision: {as_text(list(problems))}", kind=self.code)

    def problem_members(self) -> dict[str, Any]:
        """Return ``{errors}``, with pointers into a request, of which the decision is the field ``payload``."""
        return {"errors": [problem.as_dict("/payload") for problem in self.problems]}


class ApprovalRejectedError(NonRetryableError):
    """The decision was no; the message says whose and why."""

    code: ClassVar[str] = "approval_rejected"


def _checked_assignee(name: str) -> str:
    if not is_template(name) and not _ASSIGNEE.fullmatch(name):
        raise ValueError(
            "an assignee is a member (`user:ada@example.com`, or without `user:`), `key:NAME` of an API key, "
            "or `role:` with viewer, editor, admin or owner"
        )
    return name


class ApprovalConfig(NodeConfig):
    """Config of the ``approval`` node."""

    assignees: list[Annotated[str, AfterValidator(_checked_assignee)]] | TemplateText = Field(min_length=1)
    """Assignees who may decide: ``user:ada@example.com`` (a member's e-mail address or user name, with or without
    ``user:``), ``role:admin`` (that role, and those above it), ``key:NAME`` (an API key). Owners always may. The
    platform enforces it, the library shows it."""
    message: AnyValue = None
    """The question to decide, shown to the assignees."""
    form: Annotated[dict[str, Any] | None, AfterValidator(checked_schema)] = None
    """JSON Schema of the ``data`` that a decision carries."""
    timeout: Seconds | None = None
    """Time limit; without it the node waits without limit."""
    on_timeout: Literal["fail", "approve", "reject"] = "fail"
    """Result of a timeout."""
    on_reject: Literal["fail", "continue"] = "fail"
    """Result of a rejection: the node fails, or succeeds with ``approved: false``."""


class ApprovalOutput(NodeOutput):
    """Output of the ``approval`` node."""

    approved: bool
    """The decision."""
    by: str | None
    """The assignee who decided: on the platform the authenticated caller, as ``user:NAME`` or ``key:NAME``; ``null``
    after a timeout."""
    on_behalf_of: str | None
    """The person for whom a program decided, as named by the program."""
    comment: str | None
    """Their comment."""
    data: dict[str, Any] | None
    """Their answers in the form."""
    timed_out: bool
    """True if the time limit passed and ``on_timeout`` decided."""


class ApprovalNode(WaitingNode[ApprovalConfig]):
    """Waits for a decision, the signal ``approval:<node id>``, of an item ``approval:<node id>:<item_key>``.

    It gives ``{approved, by, on_behalf_of, comment, data, timed_out}``.

    The payload of the signal is ``{approved, by?, on_behalf_of?, comment?, data?}``; see ``check_decision``. Raises
    ``DecisionError`` for another one, ``ApprovalRejectedError`` for a no, ``NodeTimeoutError`` if no decision
    came in time.
    """

    node_type: ClassVar[str] = "approval"
    display_name: ClassVar[str] = "Approval"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Waits until an assignee approves or rejects."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False)
    example: ClassVar[Mapping[str, Any]] = {
        "assignees": ["role:admin"],
        "message": "Ship order {{ input.order_id }}?",
        "form": {"type": "object", "properties": {"carrier": {"enum": ["dhl", "ups"]}}},
        "timeout": "2d",
        "on_timeout": "reject",
    }
    Config = ApprovalConfig
    Output = ApprovalOutput

    @classmethod
    def awaited_signal(cls, node_id: str, config: Mapping[str, Any]) -> str:  # noqa: ARG003
        """``approval:<node id>``."""
        return f"approval:{node_id}"

    @classmethod
    def refusal(cls, suspension: Suspension, signal: Signal) -> str | None:
        """A decision of a sender who is none of the assignees, or of another shape than they are asked for.

        Both are refused when the signal is sent, too, as far as they are known before the node has begun.
        """
        if signal.sender is None:
            return None
        if not may_decide(suspension.details["assignees"], signal.sender):
            return "the sender is not among the assignees"
        try:
            check_decision(suspension.details, signal.payload)
        except DecisionError as error:
            return str(error)
        return None

    def suspend(self, config: ApprovalConfig, ctx: NodeContext, now: float) -> Suspension:
        """Until somebody decides or the time is over. The details are what a form on a screen needs."""
        details = {
            "kind": WaitKind.DECISION.value,
            **config.model_dump(include={"assignees", "message", "form", "on_timeout"}),
        }
        name = self.awaited_signal(ctx.node_id if ctx.item_key is None else f"{ctx.node_id}:{ctx.item_key}", {})
        return Suspension(end_of(config.timeout, now), signal_name(name), details)

    def resume(
        self,
        config: ApprovalConfig,
        suspension: Suspension,
        signal: Signal | None,
        now: float,  # noqa: ARG002
    ) -> dict[str, Any]:
        """The decision; see the class."""
        if signal is not None:
            # Against the form that was shown, which a template may make differently by now.
            decision = {**check_decision(suspension.details, signal.payload), "timed_out": False}
        elif config.on_timeout == "fail":
            raise nothing_came("decision", config.timeout)
        else:
            approved = config.on_timeout == "approve"
            decision = {"approved": approved, "by": None, "on_behalf_of": None, "comment": None, "data": None}
            decision["timed_out"] = True
        if not decision["approved"] and config.on_reject == "fail":
            raise ApprovalRejectedError(_refusal(decision), kind=ApprovalRejectedError.code)
        return decision


def may_decide(assignees: Iterable[str], sender: Collection[str]) -> bool:
    """Return whether a sender with these names (``user:…``, ``key:…``, ``role:…``, in lower case) may decide.

    An owner always may: an approval whose assignees have left does not wait for ever.
    """
    named = {name.casefold() if ":" in name else f"user:{name.casefold()}" for name in assignees}
    return "role:owner" in sender or not named.isdisjoint(sender)


def check_decision(details: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """``payload`` as ``{approved, by, on_behalf_of, comment, data}``, to be called before it is delivered as a signal.

    ``details`` are those of the wait (``Suspension.details``). A form is checked when the decision is yes, or when
    there is ``data``. Raises ``DecisionError`` naming everything that is wrong.
    """
    if not isinstance(payload, Mapping):
        raise DecisionError([_wrong(f"a mapping is needed, not {type(payload).__name__}")])
    problems = [_wrong("unknown key", f"/{key}") for key in payload if key not in _KEYS]
    approved, data = payload.get("approved"), payload.get("data")
    if not isinstance(approved, bool):
        problems.append(_wrong("true or false is needed", "/approved"))
    for key, most in (("by", 500), ("on_behalf_of", 500), ("comment", MAX_COMMENT)):
        value = payload.get(key)
        if value is not None and not (isinstance(value, str) and len(value) <= most):
            problems.append(_wrong(f"text of at most {most:,} characters is needed", f"/{key}"))
    if data is not None and not isinstance(data, Mapping):
        problems.append(_wrong("a mapping is needed", "/data"))
    elif (form := details.get("form")) is not None and (approved is True or data is not None):
        problems += mismatches(form, dict(data or {}), "/data")
    if problems:
        raise DecisionError(problems)
    said = {key: payload.get(key) for key in ("by", "on_behalf_of", "comment")}
    return {"approved": approved, **said, "data": None if data is None else dict(data)}


def _wrong(message: str, pointer: str = "") -> Problem:
    return Problem("bad_decision", message, pointer)


def _refusal(decision: Mapping[str, Any]) -> str:
    if decision["timed_out"]:
        return "nobody decided in time, which counts as a no"
    who = f" by {decision['by']}" if decision["by"] else ""
    who += f" on behalf of {decision['on_behalf_of']}" if decision["on_behalf_of"] else ""
    why = f": {decision['comment']}" if decision["comment"] else ""
    return f"rejected{who}{why}"
