"""Environment variables of child processes: those that are named here, and those that the operator adds.

A platform's environment is full of secrets under any name (``DATABASE_URL``, ``AWS_SESSION_TOKEN``), so nothing is
passed on because it looks harmless.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping
from typing import ClassVar

from pyflow.core.errors import NonRetryableError

#: The operator's own names, by commas; a `*` at the end stands for the rest of a name.
SETTING = "PYFLOW_ISOLATED_ENV"
#: What an interpreter and its libraries need to find themselves, their certificates, language and time.
_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "NO_COLOR", "TMPDIR", "TEMP", "TMP"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("PYTHON*", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "PYFLOW_STORAGE_ROOT",
)
#: The platform's own, which a setting cannot pass on by a slip such as `*`.
_KEPT_BACK = re.compile(r"PYFLOW_(?!STORAGE_ROOT$)|DATABASE_URL$|REDIS_URL$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?|\*", re.ASCII)


class IsolatedEnvironmentError(NonRetryableError, ValueError):
    """``PYFLOW_ISOLATED_ENV`` holds something that is no name of a variable."""

    code: ClassVar[str] = "isolated_environment_invalid"


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a node's process gets. Raises ``IsolatedEnvironmentError``."""
    passed = [*_PASSED, *_names(environment.get(SETTING, ""))]
    wanted = re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in passed))
    kept = {name: value for name, value in environment.items() if wanted.fullmatch(name) and not _KEPT_BACK.match(name)}
    # Each arena of glibc reserves 64 MiB of address space, which is what the memory limit counts.
    return kept | {"MALLOC_ARENA_MAX": "1", "PYTHONUNBUFFERED": "1"}


def _names(setting: str) -> list[str]:
    names = [name for part in setting.split(",") if (name := part.strip())]
    for name in names:
        if not _NAME.fullmatch(name):
            raise IsolatedEnvironmentError(
                f"{SETTING}: {name!r} is no name of a variable; give names by commas, such as `HTTP_PROXY, MY_*`"
            )
    return names


def address_space() -> int:
    """Bytes that this process has reserved, which is what RLIMIT_AS counts; 256 MiB where that is unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - the shortest way
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 256 * 1024 * 1024
