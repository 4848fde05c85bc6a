"""Detects that nodes have leaked too many threads or files, so that this process should be replaced."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

#: Threads that a process may have, of PyFlow's own and of nodes.
MAX_THREADS = 200
#: The part of the files that a process may have open that may be.
MAX_FILES = 0.5

_DESCRIPTORS = Path("/proc/self/fd")


def leaks() -> bool:
    """Return whether this process has too many threads, or (on Linux) open files."""
    if threading.active_count() > MAX_THREADS:
        return True
    if not _DESCRIPTORS.exists():
        return False
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return allowed != resource.RLIM_INFINITY and sum(1 for _ in _DESCRIPTORS.iterdir()) > allowed * MAX_FILES
