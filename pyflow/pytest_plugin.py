"""The pytest plugin ``pyflow``: installed with the package, so that suites written for v1 keep working.

v1 sent its requests through httpx, and its users mock them with respx, which patches httpcore. PyFlow sends them
through httpx2 now; here respx is told of httpcore2, too.
"""

from __future__ import annotations

import sys

import pytest

_TARGETS = (
    "httpcore2._sync.connection.HTTPConnection",
    "httpcore2._sync.connection_pool.ConnectionPool",
    "httpcore2._sync.http_proxy.HTTPProxy",
    "httpcore2._async.connection.AsyncHTTPConnection",
    "httpcore2._async.connection_pool.AsyncConnectionPool",
    "httpcore2._async.http_proxy.AsyncHTTPProxy",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Extend respx's mocks, if the suite has imported it."""
    mocks = sys.modules.get("respx.mocks")
    if mocks is not None:
        mocks.HTTPCoreMocker.add_targets(*_TARGETS)
