"""Celery's way in. A message is a doorbell: it names no run, and losing it loses nothing."""

from __future__ import annotations

import asyncio

from celery import shared_task
from django.db import connections

from runs import dispatch
from runs.execution import RunExecutor
from runs.leases import claimable
from runs.models import Run


@shared_task(name=dispatch.EXECUTE_TASK, ignore_result=True)
def execute() -> None:
    """Execute runs until there are none left to claim."""
    # An event loop of its own: Celery's pool runs tasks in plain processes.
    asyncio.run(RunExecutor().drain())
    connections.close_all()


@shared_task(name="runs.sweep", ignore_result=True, expires=10)
def sweep() -> None:
    """Ring for runs that nobody executes: their message was lost, or their executor was."""
    if Run.objects.across_tenants().filter(claimable()).exists():
        dispatch.ring()
