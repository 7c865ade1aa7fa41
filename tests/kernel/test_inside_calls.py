"""`ns.call` and `ns.call_async`: Python on a thread inside, which sees the namespace's files."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_netns import CallTimeout, Lab, NetnsError


def network(_: object = None) -> int:
    """The inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_an_exception_comes_back_with_its_traceback(netns: Lab) -> None:
    """An exception of the function is raised here, and its traceback shows the line in the function."""
    red = netns.add_namespace("red")

    def broken() -> None:
        raise LookupError("nobody home")

    with pytest.raises(LookupError, match="nobody home") as failure:
        red.call(broken)
    assert "broken" in [frame.name for frame in traceback.extract_tb(failure.value.__traceback__)]


def test_a_coroutine_function_has_an_event_loop_inside(netns_pair: Lab) -> None:
    """A coroutine function runs in an event loop there: its tasks and its lookups in other threads are inside."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    listener = blue.create_server(("", 80))

    async def greet() -> tuple[str, int]:
        _, writer = await asyncio.open_connection("blue", 80)
        address = writer.get_extra_info("sockname")[0]
        writer.close()
        await writer.wait_closed()
        return address, await asyncio.to_thread(network)

    with listener:
        assert red.call(greet) == ("192.168.15.1", red._kernel.inode)


def test_the_function_may_start_threads_pools_and_programs(netns: Lab) -> None:
    """Everything that a function in a call starts is inside: threads, pool workers, programs."""
    red = netns.add_namespace("red")

    def start_all() -> set[int]:
        seen = [network()]
        thread = threading.Thread(target=lambda: seen.append(network()))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            seen += pool.map(lambda _: network(), range(4))
        code = "import os; print(os.stat('/proc/thread-self/ns/net').st_ino)"
        seen.append(int(subprocess.check_output([sys.executable, "-c", code])))
        return set(seen)

    assert red.call(start_all) == {red._kernel.inode}


def test_names_are_those_of_the_namespace_even_for_the_c_library(netns_pair: Lab) -> None:
    """A call sees the namespace's own /etc/hosts, so that C libraries resolve the names too."""
    text = netns_pair["red"].call(Path("/etc/hosts").read_text)
    assert "192.168.15.2 blue" in text
    assert "192.168.15.2 blue" not in Path("/etc/hosts").read_text()


def test_a_call_that_is_late_shows_where_it_is(netns: Lab) -> None:
    """The timeout's error shows the stack of the function, and the caller continues at once."""
    red = netns.add_namespace("red")
    release = threading.Event()

    def wait_for_release() -> None:
        release.wait(60)

    try:
        with pytest.raises(CallTimeout, match=r"wait_for_release(.|\n)*release\.wait"):
            red.call(wait_for_release, timeout=0.5)
    finally:
        release.set()


def test_a_late_coroutine_shows_what_it_awaits_and_is_cancelled(netns: Lab) -> None:
    """The stack is that of the coroutine, not of its loop; the coroutine ends at the timeout."""
    red = netns.add_namespace("red")
    cancelled = threading.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(CallTimeout, match=r"in never\n.*asyncio\.Event\(\)\.wait\(\)") as failure:
        red.call(never, timeout=0.5)
    assert "selectors.py" not in str(failure.value)
    assert cancelled.wait(10)


def test_a_call_that_outlives_its_lab_is_reported_and_hangs_nothing() -> None:
    """Closing the lab returns, with an error that shows the function's stack."""
    release, started = threading.Event(), threading.Event()
    lab = Lab()
    red = lab.add_namespace("red")

    def stubborn() -> None:
        started.set()
        release.wait(60)

    caller = threading.Thread(target=lambda: red.call(stubborn))
    caller.start()
    assert started.wait(10)
    try:
        with pytest.raises(NetnsError, match=r"cannot end call of .*stubborn(.|\n)*release\.wait"):
            lab.close()
    finally:
        release.set()
        caller.join()


def test_a_coroutine_that_outlives_its_lab_is_cancelled() -> None:
    """A coroutine can be ended, so closing its lab ends it without an error."""
    started = threading.Event()
    outcome: list[BaseException] = []
    lab = Lab()
    red = lab.add_namespace("red")

    async def serve() -> None:
        started.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            red.call(serve)
        except BaseException as error:
            outcome.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert started.wait(10)
    lab.close()
    caller.join()
    assert isinstance(outcome[0], asyncio.CancelledError)


def test_call_async_leaves_the_loop_free(netns_pair: Lab) -> None:
    """A server's coroutine in blue and a client's in red, awaited from one loop that keeps running."""
    red, blue = netns_pair["red"], netns_pair["blue"]

    async def main() -> bytes:
        listening, loop = asyncio.Event(), asyncio.get_running_loop()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        async def serve() -> None:
            async with await asyncio.start_server(answer, port=80):
                loop.call_soon_threadsafe(listening.set)
                await asyncio.Event().wait()

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection("blue", 80)
            writer.write(b"ping\n")
            try:
                return await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()

        server = asyncio.create_task(blue.call_async(serve))
        await listening.wait()
        reply = await red.call_async(ask)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        return bytes(reply)

    assert asyncio.run(main()) == b"PING\n"


def test_call_async_raises_and_times_out_as_call_does(netns: Lab) -> None:
    """Exceptions are raised in the caller, timeouts are a CallTimeout, for plain functions and coroutine functions."""
    red = netns.add_namespace("red")
    release = threading.Event()

    async def main() -> None:
        assert await red.call_async(network) == red._kernel.inode
        with pytest.raises(ZeroDivisionError):
            await red.call_async(lambda: 1 // 0)
        with pytest.raises(CallTimeout, match=r"in sleep\n"):
            await red.call_async(asyncio.sleep, 60, timeout=0.5)
        with pytest.raises(CallTimeout):
            await red.call_async(release.wait, 60, timeout=0.1)

    try:
        asyncio.run(main())
    finally:
        release.set()


def test_a_lookup_without_an_answer_fails_in_a_call(netns: Lab) -> None:
    """Without a name server a lookup fails, and sooner than on the real network."""
    red = netns.add_namespace("red")
    with pytest.raises(socket.gaierror):
        red.call(socket.getaddrinfo, "nobody.example.com", 80, timeout=4)  # the C library would wait for 10 s


def test_keywords_reach_the_function(netns: Lab) -> None:
    """Keywords are passed to the function, except the call's timeout; the function's own timeout is bound by partial."""
    red = netns.add_namespace("red")

    def show(*args: object, **kwargs: object) -> tuple[object, ...]:
        return args, kwargs

    assert red.call(show, 1, key="value", timeout=20) == ((1,), {"key": "value"})
    assert red.call(functools.partial(show, timeout=3)) == ((), {"timeout": 3})
    assert asyncio.run(red.call_async(show, key="value")) == ((), {"key": "value"})


VARIABLE = contextvars.ContextVar("VARIABLE", default="none")


def test_context_variables_are_the_caller_s(netns: Lab) -> None:
    """Context variables of structlog, OpenTelemetry and decimal are visible, in coroutines too; changes inside stay inside."""
    red = netns.add_namespace("red")

    async def get_later() -> str:
        await asyncio.sleep(0)
        return VARIABLE.get()

    def change() -> None:
        VARIABLE.set("changed")

    async def main() -> str:
        VARIABLE.set("in a task")
        return await red.call_async(VARIABLE.get)

    token = VARIABLE.set("set")
    try:
        assert red.call(VARIABLE.get) == red.call(get_later) == "set"
        red.call(change)
        assert VARIABLE.get() == "set"
        assert asyncio.run(main()) == "in a task"
    finally:
        VARIABLE.reset(token)


@pytest.mark.parametrize("moments", [1, 2, 5])
def test_cancelling_a_call_that_has_only_just_begun(netns: Lab, moments: int) -> None:
    """A cancellation is never lost, however early: the coroutine does not continue on its thread."""
    red = netns.add_namespace("red")

    async def main() -> None:
        call = asyncio.create_task(red.call_async(asyncio.sleep, 1000))
        for _ in range(moments):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert all(each.has_ended(10) for each in red.programs.calls)


def test_a_call_that_was_late_before_it_has_begun(netns: Lab) -> None:
    """A timeout that expires before the thread starts still ends the coroutine."""
    red = netns.add_namespace("red")
    red.run(["true"])
    with pytest.raises(CallTimeout):
        red.call(asyncio.sleep, 1000, timeout=0)
    assert all(each.has_ended(10) for each in red.programs.calls)


def test_the_current_directory_is_gone(netns: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that removes its current directory can still run, call, and look up names."""
    red = netns.add_namespace("red")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert red.call(os.getcwd) == red.run("pwd").stdout.strip() == "/"
    red.start(["sleep", "1000"])
    with red:
        assert socket.gethostbyname("red") == "127.0.0.1"
