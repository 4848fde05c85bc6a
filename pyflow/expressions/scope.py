"""Scopes: the names that templates and expressions can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pyflow.core.context import BUILT_IN_NAMES, ExecutionContext
from pyflow.core.events import rfc3339
from pyflow.core.ports import SecretSource
from pyflow.core.redaction import Redactor
from pyflow.core.result import NodeRun
from pyflow.expressions.draws import DRAWS, Draws, derived
from pyflow.expressions.values import LITERALS
from pyflow_sdk.node import SecretNotFoundError

#: What `run` has.
RUN_FIELDS = frozenset({"id", "workflow", "state", "started_at", "now", "error"})
#: What `nodes.x` has.
NODE_FIELDS = frozenset({"state", "output", "error"})


class V1Scope(Mapping[str, Any]):
    """The names of a v1 expression or template: the results so far and the three built-ins. A view, not a copy."""

    __slots__ = ("_context", "_now", "_results")

    def __init__(self, context: ExecutionContext, now: float) -> None:
        self._context = context
        self._results = context.results
        self._now = now

    def __getitem__(self, name: str) -> Any:
        if name in self._results:
            return self._results[name]
        if name == "__run_id__":
            return self._context.run_id
        if name == "__workflow__":
            return self._context.workflow_name
        if name == "__now__":
            return datetime.fromtimestamp(self._now, UTC).isoformat()
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._results, **dict.fromkeys(BUILT_IN_NAMES)})

    def __len__(self) -> int:
        return len({**self._results, **dict.fromkeys(BUILT_IN_NAMES)})


class SecretScope(Mapping[str, str]):
    """``secrets``: values are fetched when they are used, and masked from then on. They cannot be listed."""

    __slots__ = ("_redactor", "_source")

    def __init__(self, source: SecretSource | None, redactor: Redactor) -> None:
        self._source = source
        self._redactor = redactor

    def __getitem__(self, name: str) -> str:
        try:
            if self._source is None:
                raise KeyError(name)
            value = self._source.get(name)
        except KeyError:
            raise SecretNotFoundError(f"secret not found: {name}") from None
        self._redactor.add(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<secrets>"


class _View(Mapping[str, Any]):
    """``at``: the time of this view, which is `run.now` throughout; ``None``: whatever the time is by then.

    ``began``: `now`, the moment at which the node began, if it has. ``seed``: what its random values follow from.
    """

    __slots__ = ("_at", "_base", "_began", "_draws", "_results", "_run", "_time")

    def __init__(
        self,
        base: Mapping[str, Any],
        results: Mapping[str, Any],
        run: Mapping[str, Any],
        time: Callable[[], float],
        at: float | None,
        *,
        began: float | None = None,
        seed: tuple[str | int, ...] = (),
    ) -> None:
        self._base = base
        self._results = results
        self._run = run
        self._time = time
        self._at = at
        self._began = began
        self._draws: Draws | tuple[str | int, ...] = seed

    def __getitem__(self, name: str) -> Any:
        if name in self._base:
            return self._base[name]
        if name == "run":
            return {**self._run, "now": rfc3339(self._moment())}
        if name == "now":
            return datetime.fromtimestamp(self._moment() if self._began is None else self._began, UTC)
        if name == DRAWS:
            if isinstance(self._draws, tuple):
                self._draws = Draws(self._run["id"], *self._draws)
            return self._draws
        return self._results[name]

    def _moment(self) -> float:
        return self._time() if self._at is None else self._at

    def __iter__(self) -> Iterator[str]:
        return iter({**self._results, **self._base, "run": None, "now": None})

    def __len__(self) -> int:
        return len({**self._results, **self._base, "run": None, "now": None})


class _Layer(Mapping[str, Any]):
    """The names of an outer scope with more before them. ``part``: what is added to the seed of its random values."""

    __slots__ = ("_draws", "_outer", "_own", "_part")

    def __init__(self, outer: Mapping[str, Any], own: Mapping[str, Any], *part: str | int) -> None:
        self._outer = outer
        self._own = own
        self._part = part
        self._draws: Draws | None = None

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        if name == DRAWS and self._part:
            self._draws = self._draws or derived(self._outer, *self._part)
            return self._draws
        return self._outer[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._outer, **self._own})

    def __len__(self) -> int:
        return len({**self._outer, **self._own})


class ItemScope(_Layer):
    """The names of a node, and ``item``, ``item_index``, ``item_key`` of one of its items."""

    __slots__ = ()

    def __init__(self, outer: Mapping[str, Any], item: Any, index: int, key: str, *purpose: str | int) -> None:
        """``purpose``: what is computed for the item, so that its random values are those of nothing else."""
        super().__init__(outer, {"item": item, "item_index": index, "item_key": key}, "item", key, *purpose)


class UndoScope(_Layer):
    """The names of a compensation: those of the end of the run, and ``output``, the output that it undoes."""

    __slots__ = ()

    def __init__(self, outer: Mapping[str, Any], output: Any) -> None:
        super().__init__(outer, {"output": output})


class RoundScope(_Layer):
    """The names of ``until.when``: those of the node (or item), and ``output`` and ``round`` of the last round."""

    __slots__ = ()

    def __init__(self, outer: Mapping[str, Any], output: Any, number: int) -> None:
        super().__init__(outer, {"output": output, "round": number}, "until", number)


class FieldScope(_Layer):
    """The names of a ``set`` node, and ``output``: those of its fields that are computed by then."""

    __slots__ = ("output",)

    def __init__(self, outer: Mapping[str, Any]) -> None:
        self.output: dict[str, Any] = {}
        super().__init__(outer, {"output": self.output})


class RunScope:
    """Version 2's scope: ``input trigger run secrets vars nodes now``, and every node's output by its id."""

    def __init__(
        self,
        context: ExecutionContext,
        constants: Mapping[str, Any],
        secrets: SecretSource | None,
        time: Callable[[], float],
    ) -> None:
        self._time = time
        self.secrets = SecretScope(secrets, context.redactor)
        self._results = context.results
        self._nodes: dict[str, dict[str, Any]] = {}
        self._base: dict[str, Any] = {
            "input": context.results.get("input", {}),
            "trigger": context.results.get("trigger", {}),
            "vars": constants,
            "secrets": self.secrets,
            "nodes": self._nodes,
            **LITERALS,
        }
        self._run: dict[str, Any] = {
            "id": context.run_id,
            "workflow": context.workflow_name,
            "state": "running",
            "started_at": None,
            "error": None,
        }

    def started(self, at: str) -> None:
        """The run has begun (RFC 3339)."""
        self._run["started_at"] = at

    def ended(self, run: NodeRun, output: Any) -> None:
        """Let `nodes` show how a node ended, and its output or what stands for it. It is shared, not copied."""
        self._nodes[run.id] = {
            "state": str(run.state),
            "output": output,
            "error": None if run.error is None else run.error.as_names(),
        }

    def names(self, began: float | None = None, seed: tuple[str | int, ...] = ()) -> Mapping[str, Any]:
        """Return the names that a node of the graph sees now: `run.now` stays at the time of this call.

        ``began``: when the node began, which is `now`. ``seed``: what its random values follow from, besides the run.
        """
        return _View(self._base, self._results, self._run, self._time, self._time(), began=began, seed=seed)

    def names_any_time(self) -> Mapping[str, Any]:
        """The same for who keeps it: `run.now` is the time at which it is looked at."""
        return _View(self._base, self._results, self._run, self._time, None)

    def names_at_end(
        self,
        state: str,
        error: Callable[[], Mapping[str, Any] | None],
        began: float | None = None,
        seed: tuple[str | int, ...] = (),
    ) -> Mapping[str, Any]:
        """Return the names of ``on_failure``, ``finally`` and ``outputs``, with the final ``run.state`` and error."""
        run = self._run | {"state": str(state), "error": error()}
        return _View(self._base, self._results, run, self._time, self._time(), began=began, seed=seed)
