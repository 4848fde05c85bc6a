"""Errors of expressions, before and while they are evaluated."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import PyFlowError
from pyflow.core.wording import computed_reason


class UnsafeExpressionError(PyFlowError, ValueError):
    """The expression holds something that is not allowed."""

    code: ClassVar[str] = "expression_unsafe"
    permanent: ClassVar[bool] = True


class ExpressionSyntaxError(UnsafeExpressionError, SyntaxError):
    """The text is not an expression."""

    code: ClassVar[str] = "expression_syntax"

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownFunctionError(UnsafeExpressionError, NameError):
    """The expression calls a function that does not exist here."""

    code: ClassVar[str] = "expression_unknown_function"


class ExpressionLimitError(UnsafeExpressionError):
    """The expression, or a value it makes, is larger than allowed."""

    code: ClassVar[str] = "expression_limit"
    #: How much time it takes is another matter each time.
    permanent: ClassVar[bool] = False


class EvaluationError(PyFlowError):
    """An allowed expression failed on these values. Its subclasses also are Python's own error of the kind."""

    code: ClassVar[str] = "expression_failed"
    permanent: ClassVar[bool] = True


class UnknownNameError(EvaluationError, NameError):
    """The expression uses a name that has no value."""

    code: ClassVar[str] = "expression_unknown_name"


class EvaluationTypeError(EvaluationError, TypeError):
    """An operation does not fit the types of its values."""


class EvaluationValueError(EvaluationError, ValueError):
    """A value is right in type and wrong otherwise."""


class EvaluationKeyError(EvaluationError, KeyError):
    """A mapping has no such key."""

    def __str__(self) -> str:
        return str(self.args[0])


class EvaluationIndexError(EvaluationError, IndexError):
    """A sequence is not that long."""


class EvaluationAttributeError(EvaluationError, AttributeError):
    """A value has no such field."""


class EvaluationDivisionError(EvaluationError, ZeroDivisionError):
    """A division by zero."""


_WRAPPED: tuple[tuple[type[Exception], type[EvaluationError]], ...] = (
    (ZeroDivisionError, EvaluationDivisionError),
    (KeyError, EvaluationKeyError),
    (IndexError, EvaluationIndexError),
    (AttributeError, EvaluationAttributeError),
    (ValueError, EvaluationValueError),
    (TypeError, EvaluationTypeError),
)


def wrap_error(error: Exception, where: str) -> EvaluationError:
    """Python's ``error`` as the one of ours that also is of its kind; ``where`` is put before its message."""
    ours = next((ours for theirs, ours in _WRAPPED if isinstance(error, theirs)), EvaluationError)
    detail = f"no key {error}" if isinstance(error, KeyError) else computed_reason(str(error))
    return ours(f"{where}: {detail}")
