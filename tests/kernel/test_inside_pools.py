"""Pools of threads: work runs where it was handed over, and no worker keeps a namespace that it was first used in."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_netns import Lab, LabClosedError
from pytest_netns.kernel.spaces import destruction


def network() -> int:
    """The number of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_work_runs_where_it_was_handed_over(netns: Lab, pool: ThreadPoolExecutor) -> None:
    """One worker, first used inside: it works in red, in blue and outside as it is asked to, names included."""
    outside, red, blue = network(), netns.add_namespace("red"), netns.add_namespace("blue")
    with red:
        assert pool.submit(network).result() == network() != outside
        assert pool.submit(socket.gethostbyname, "red").result() == socket.gethostbyname("red")
    with blue:
        assert pool.submit(network).result() == network() != outside
        assert list(pool.map(lambda _: network(), range(3))) == [network()] * 3
    assert pool.submit(network).result() == outside


def test_a_worker_keeps_no_namespace_alive(pool: ThreadPoolExecutor) -> None:
    """A pool that was first used in a lab lives on: the lab's namespaces are gone, later work is done outside."""
    outside = network()
    with Lab("pool") as lab:
        with lab.add_namespace("red"):
            assert pool.submit(network).result() != outside
    destruction.hub().wait(time.monotonic() + destruction.GRACE)
    assert not [each for each in destruction.hub().alive() if each.owner == "pool"]
    assert pool.submit(network).result() == outside


def test_work_that_comes_too_late_is_refused(pool: ThreadPoolExecutor) -> None:
    """Work that a worker gets to after its namespace has been closed fails with an error that says so; it runs nowhere else."""
    closed = threading.Event()
    with Lab() as lab:
        red = lab.add_namespace("red")
        pool.submit(closed.wait, 30)
        with red:
            late = pool.submit(network)
    closed.set()
    with pytest.raises(LabClosedError):
        late.result()


def test_threads_of_one_event_loop_used_by_several_labs() -> None:
    """An event loop that outlives labs, as a session's does: its threads and lookups are where each task is."""
    outside = network()
    with asyncio.Runner() as runner:
        for _ in range(2):
            with Lab() as lab:
                red = lab.add_namespace("red")
                with red:
                    inside = network()
                    assert runner.run(asyncio.to_thread(network)) == inside != outside
        assert runner.run(asyncio.to_thread(network)) == outside


def test_worker_threads_of_trio(netns: Lab) -> None:
    """Trio keeps its worker threads for the whole process: each call is where its task is."""
    trio = pytest.importorskip("trio")
    outside = network()
    for name in ("red", "blue"):
        with netns.add_namespace(name):
            inside = network()
            assert trio.run(trio.to_thread.run_sync, network) == inside != outside
    assert trio.run(trio.to_thread.run_sync, network) == outside
