"""`python -m tests.support.processes.webhooks VERB`: does one thing about webhooks in a process that can be killed.

`send`: sends what is due once. `start WORKFLOW`: starts a run, and ends by SIGKILL right after the commit.
"""

import os
import signal
import sys

import django


def main(verb: str, *arguments: str) -> None:
    """Do it."""
    django.setup()
    from runs.services.start import Start, start_run
    from tenants.models import Tenant
    from tests.support.factories.rows import a_test
    from tests.support.factories.webhooks import deliver

    if verb == "send":
        deliver()
        return
    [name] = arguments
    start_run(by=a_test(Tenant.objects.get()), workflow_name=name, start=Start(input={"who": "Ada"}))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
    main(*sys.argv[1:])
