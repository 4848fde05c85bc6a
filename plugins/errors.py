"""Errors of the catalogue."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class NodeTypeMissingError(PyFlowError):
    """This installation has no node type with this name."""

    code: ClassVar[str] = "node_type_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND
