"""Public names for PyFlow plugins: the node base class, its context, and the errors that a node may raise."""

from pyflow_sdk.errors import NodeError, NonRetryableError, PyFlowError, RetryableError
from pyflow_sdk.node import BaseNodeV2, NodeContext, SecretNotFoundError

__all__ = [
    "BaseNodeV2",
    "NodeContext",
    "NodeError",
    "NonRetryableError",
    "PyFlowError",
    "RetryableError",
    "SecretNotFoundError",
]
