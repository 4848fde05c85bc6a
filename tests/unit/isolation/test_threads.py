"""Threads for blocking nodes: a node that never returns costs a thread, and nothing else."""

import asyncio
import threading

import pytest

from pyflow.isolation.threads import NodeThreads
from tests.support import waiting


@pytest.fixture
async def threads() -> NodeThreads:
    threads = NodeThreads(2)
    asyncio.get_running_loop().set_default_executor(threads)
    return threads


async def test_no_more_threads_work_at_a_time_than_allowed(threads: NodeThreads):
    together, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        threading.Event().wait(0.01)
        with lock:
            together -= 1

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(10)))
    assert most == 2


async def test_what_a_call_raises_is_raised_where_it_is_awaited(threads: NodeThreads):
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)


async def test_calls_that_never_return_hold_up_no_others(threads: NodeThreads):
    end = threading.Event()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.to_thread(end.wait)
    assert threads.given_up == 5
    assert await asyncio.to_thread(lambda: "done") == "done"
    end.set()
    await asyncio.to_thread(waiting.until, lambda: not threads.given_up, what="end of the calls")


async def test_a_call_that_was_cancelled_before_its_turn_is_never_made(threads: NodeThreads):
    end, made = threading.Event(), []
    held = [asyncio.ensure_future(asyncio.to_thread(end.wait)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.to_thread(made.append, 1)
    end.set()
    await asyncio.gather(*held)
    assert await asyncio.to_thread(lambda: "next") == "next"
    assert made == []
    assert threads.given_up == 0
