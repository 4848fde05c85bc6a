"""The results and errors of one run, as nodes see them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pyflow.core.messages import show
from pyflow.core.redaction import Redactor
from pyflow.core.tracebacks import text_of

#: Names that v1 expressions and templates know besides node ids. ``__now__`` is made when a node starts.
BUILT_IN_NAMES = ("__run_id__", "__workflow__", "__now__")


class ExecutionContext:
    """The results so far, by node id.

    A node's ``execute`` is handed the context of its run. Results of ``initial_context`` are stored like those of
    nodes. Errors are kept as text.
    """

    def __init__(self, workflow_name: str, run_id: str) -> None:
        self.workflow_name = workflow_name
        self.run_id = run_id
        self._results: dict[str, Any] = {}
        self._errors: dict[str, str] = {}
        #: What templates of the run see by name; ``None`` outside of a version 2 run.
        self.scope: Mapping[str, Any] | None = None
        #: Whether an engine executes the nodes: it has rendered their configs, and data must not be rendered again.
        self.is_rendered = False
        #: Replaces the values of the secrets this run used by ``***`` wherever text leaves it.
        self.redactor = Redactor()

    def __repr__(self) -> str:
        counts = f"results: {len(self._results)}, errors: {len(self._errors)}"
        return f"<ExecutionContext of run {show(self.run_id)} of {show(self.workflow_name)}: {counts}>"

    def scoped(self, names: Mapping[str, Any]) -> ExecutionContext:
        """This context with other names: those of an item, or of the end of the run."""
        twin = copy.copy(self)
        twin.scope = names
        return twin

    def set_result(self, node_id: str, value: Any) -> None:
        """Store the result of a node."""
        self._results[node_id] = value

    def get_result(self, node_id: str) -> Any:
        """The result of a node; ``KeyError`` if it has none (not run, skipped or failed)."""
        try:
            return self._results[node_id]
        except KeyError:
            raise KeyError(f"No result for node: {node_id}") from None

    def has_result(self, node_id: str) -> bool:
        """Return whether the node has a result."""
        return node_id in self._results

    def all_results(self) -> dict[str, Any]:
        """A copy of all results, by node id."""
        return dict(self._results)

    @property
    def results(self) -> Mapping[str, Any]:
        """The results themselves, not a copy: for reading only."""
        return self._results

    def set_error(self, node_id: str, error: Exception | str) -> None:
        """Record why a node failed: the text of an exception."""
        self._errors[node_id] = error if isinstance(error, str) else text_of(error) or type(error).__name__

    def get_error(self, node_id: str) -> str | None:
        """The text of what was recorded for a failed node; ``None`` if nothing was."""
        return self._errors.get(node_id)

    def has_error(self, node_id: str) -> bool:
        """Return whether the node failed."""
        return node_id in self._errors
