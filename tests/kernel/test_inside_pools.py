"""Thread pools: work runs in the namespace of its submitter, and no worker keeps alive the namespace it was first used in."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from pytest_netns import Lab, LabClosedError
from pytest_netns.kernel.spaces import destruction, moving


def network() -> int:
    """The inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_work_runs_where_it_was_handed_over(netns: Lab, pool: ThreadPoolExecutor) -> None:
    """One worker, first used inside: it works in red, in blue and outside as requested, with name resolution."""
    outside, red, blue = network(), netns.add_namespace("red"), netns.add_namespace("blue")
    with red:
        assert pool.submit(network).result() == network() != outside
        assert pool.submit(socket.gethostbyname, "red").result() == socket.gethostbyname("red")
    with blue:
        assert pool.submit(network).result() == network() != outside
        assert list(pool.map(lambda _: network(), range(3))) == [network()] * 3
    assert pool.submit(network).result() == outside


def test_a_worker_keeps_no_namespace_alive(pool: ThreadPoolExecutor) -> None:
    """A pool first used in a lab survives it: the lab's namespaces are freed, and later work runs outside."""
    outside = network()
    with Lab("pool") as lab:
        with lab.add_namespace("red"):
            assert pool.submit(network).result() != outside
    destruction.hub().wait(destruction.GRACE)
    assert not [each for each in destruction.hub().alive() if each.owner == "pool"]
    assert pool.submit(network).result() == outside


def test_work_that_comes_too_late_is_refused(pool: ThreadPoolExecutor) -> None:
    """Work that a worker starts after its namespace was closed fails with an error; it runs nowhere else."""
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
    """An event loop that outlives labs, such as a session's: its threads and lookups follow each task."""
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
    """Trio keeps its worker threads for the whole process: each call follows its task."""
    trio = pytest.importorskip("trio")
    outside = network()
    for name in ("red", "blue"):
        with netns.add_namespace(name):
            inside = network()
            assert trio.run(trio.to_thread.run_sync, network) == inside != outside
    assert trio.run(trio.to_thread.run_sync, network) == outside


def test_the_pool_of_twisted(netns: Lab) -> None:
    """A pool like that of Twisted's reactor: work runs in its submitter's namespace, and its threads keep no namespace alive."""
    threadpool = pytest.importorskip("twisted.python.threadpool")
    outside, pool = network(), threadpool.ThreadPool(1, 1)

    def where() -> int:
        found: SimpleQueue[int] = SimpleQueue()
        pool.callInThread(lambda: found.put(network()))
        return found.get(timeout=30)

    with netns.add_namespace("red"):
        pool.start()
        try:
            assert where() == network() != outside
            with netns.add_namespace("blue"):
                assert where() == network() != outside
            with moving.outside():
                assert where() == outside
        finally:
            pool.stop()


def test_worker_threads_of_anyio(netns: Lab) -> None:
    """anyio's worker threads live as long as the outermost task: each call follows its task, first used inside or not."""
    anyio = pytest.importorskip("anyio")
    outside = network()

    async def main() -> None:
        for name in ("red", "blue"):
            namespace = netns.add_namespace(name)
            namespace.__enter__()
            inside = network()
            namespace.__exit__(None, None, None)
            assert await anyio.to_thread.run_sync(namespace.call, network) == inside
            assert await anyio.to_thread.run_sync(network) == outside

    with netns.add_namespace("green"):
        inside = network()
        assert anyio.run(anyio.to_thread.run_sync, network) == inside
        with moving.outside():
            anyio.run(main)


def test_threads_of_uvloop(netns: Lab) -> None:
    """uvloop's threads for lookups, started once for the whole process, are outside and keep no namespace alive."""
    uvloop = pytest.importorskip("uvloop")
    with netns.add_namespace("red"), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        inside = network()

        async def look_up() -> object:
            return await asyncio.get_running_loop().getaddrinfo("localhost", 80)

        assert runner.run(look_up())
    places = {
        int(thread): os.stat(f"/proc/self/task/{thread}/ns/net").st_ino for thread in os.listdir("/proc/self/task")
    }
    assert inside not in places.values()
