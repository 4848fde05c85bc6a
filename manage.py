#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    try:
        from pyflow_site.commands import run
    except ImportError as error:
        raise SystemExit(f"Django is not installed here ({error}). `make setup` installs everything.") from error
    run(sys.argv)


if __name__ == "__main__":
    main()
