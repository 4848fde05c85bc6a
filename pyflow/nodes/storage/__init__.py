"""The ``storage`` node."""

from pyflow.nodes.storage.node import StorageNode

__all__ = ["StorageNode"]
