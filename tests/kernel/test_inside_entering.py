"""`with ns:` moves the calling thread, and only it, and always puts it back."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from pytest_netns import Lab, Namespace, NetnsError
from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import interrupts, syscalls

INTERRUPTS = 150


def network() -> int:
    """The inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.fixture(autouse=True)
def thread_restored() -> Iterator[None]:
    """After each test the main thread is where it was before."""
    before = network()
    yield
    assert network() == before


def test_nested_blocks_each_lead_back_to_where_they_began(netns: Lab) -> None:
    """Blocks nest, in the same and in different namespaces, and each end restores the previous one."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    outside = network()
    with red:
        in_red = network()
        with blue:
            in_blue = network()
            with blue, red:
                assert network() == in_red
            assert network() == in_blue
        assert network() == in_red
    assert network() == outside
    assert len({outside, in_red, in_blue}) == 3


def test_a_block_leads_back_to_where_other_code_has_moved_the_thread(netns: Lab) -> None:
    """The thread returns to where it was, even if it was moved by something else than a block."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    with blue:
        in_blue = network()
    outside, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", blue.path))
    try:
        syscalls.setns(there, syscalls.CLONE_NEWNET)
        with red:
            assert network() != in_blue
        assert network() == in_blue
    finally:
        syscalls.setns(outside, syscalls.CLONE_NEWNET)
        os.close(outside)
        os.close(there)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_leaves_the_block(netns: Lab, error: type[BaseException]) -> None:
    """An exception inside propagates, and the thread is outside when it is caught."""
    red = netns.add_namespace("red")
    outside = network()
    with pytest.raises(error):
        with red:
            raise error
    assert network() == outside


def test_blocks_left_out_of_order_are_refused(netns: Lab) -> None:
    """Leaving the outer namespace first is an error that names it; the thread can then still leave in order."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    with red, blue:
        with pytest.raises(NetnsError, match="cannot leave namespace 'red'"):
            red.__exit__(None, None, None)


def test_each_thread_is_where_it_has_gone(netns: Lab) -> None:
    """Two threads in two namespaces at once do not move each other, or the main thread."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    both_inside = threading.Barrier(2)
    seen: dict[str, tuple[int, int]] = {}
    outside = network()

    def visit(namespace: object, name: str) -> None:
        with namespace:  # type: ignore[attr-defined]
            both_inside.wait(10)
            inside = network()
            both_inside.wait(10)
        seen[name] = (inside, network())

    threads = [threading.Thread(target=visit, args=(namespace, namespace.name)) for namespace in (red, blue)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert network() == outside
    assert seen["red"][0] != seen["blue"][0]
    assert {seen["red"][1], seen["blue"][1]} == {outside}


def test_ctrl_c_at_any_moment_restores_the_thread(netns: Lab) -> None:
    """Whenever SIGINT arrives - entering, inside, nested, leaving - the thread is outside once it has been handled."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    with red:
        in_red = network()
    outside = network()
    former = signal.getsignal(signal.SIGINT)
    main, moments = threading.main_thread().ident or 0, random.Random(1)
    ready = threading.Semaphore(0)

    def send() -> None:
        for _ in range(INTERRUPTS):
            ready.acquire()
            select.select([], [], [], moments.uniform(0, 0.002))
            signal.pthread_kill(main, signal.SIGINT)

    def come_and_go() -> None:
        ready.release()
        while True:
            with red:
                assert network() == in_red
                with blue:
                    pass
            assert network() == outside

    interrupts.guard(signal.SIGINT, signal.default_int_handler, former)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        for _ in range(INTERRUPTS):
            with pytest.raises(KeyboardInterrupt):
                come_and_go()
            assert network() == outside
    finally:
        signal.signal(signal.SIGINT, former)
        sender.join()


def test_a_signal_put_off_ends_the_wait_that_follows(netns: Lab) -> None:
    """Ctrl-C while entering is raised in the block, even if the block only waits in a system call."""
    red = netns.add_namespace("red")
    former = signal.getsignal(signal.SIGINT)
    receive, send = os.pipe()

    @interrupts.uninterrupted
    def interrupted_while_entering() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        red.__enter__()

    def wait_inside() -> None:
        try:
            interrupted_while_entering()
            os.read(receive, 1)
        finally:
            red.__exit__(None, None, None)

    interrupts.guard(signal.SIGINT, signal.default_int_handler, former)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_inside()
    finally:
        signal.signal(signal.SIGINT, former)
        os.close(receive)
        os.close(send)


def test_a_block_in_a_coroutine_without_await_is_fine(netns: Lab) -> None:
    """Code between two awaits can be inside, and the task continues afterwards."""
    red = netns.add_namespace("red")
    outside = network()

    async def main() -> int:
        await asyncio.sleep(0)
        with red:
            inside = network()
        await asyncio.sleep(0)
        assert network() == outside
        return inside

    assert asyncio.run(main()) != outside


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Runs coroutines on Python's own event loop and on uvloop."""
    with asyncio.Runner(loop_factory=pytest.importorskip(request.param).new_event_loop) as runner:
        runner.get_loop()  # uvloop's descriptors are open from the start
        yield runner


def test_await_inside_a_block_is_an_error_and_moves_no_other_task(netns: Lab, runner: asyncio.Runner) -> None:
    """The error names the alternatives; a task that was always ready never ran inside."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    outside = network()
    seen = []

    async def bystander() -> None:
        for _ in range(5):
            seen.append(network())
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(bystander())
        with pytest.raises(NetnsError, match=r"cannot await inside .*'red'.*\bns\.call_async\b") as failure:
            with red, blue:
                await asyncio.sleep(60)
        assert isinstance(failure.value.__context__, NetnsError)
        assert network() == outside
        await other
        await asyncio.sleep(0)  # the cancellation is over: this await works

    runner.run(main())
    assert set(seen) == {outside}
    assert sys.getprofile() is None


def test_several_tasks_that_await_inside_blocks(netns: Lab, runner: asyncio.Runner) -> None:
    """Each of them gets the error, and none leaves a descriptor behind."""
    namespaces = [netns.add_namespace(name) for name in ("red", "blue", "green")]
    messages = []

    async def wrong(namespace: Namespace) -> None:
        try:
            with namespace:
                await asyncio.sleep(0)
        except NetnsError as error:
            messages.append(str(error).split(":")[0])

    async def together() -> None:
        await asyncio.gather(*map(wrong, namespaces))

    runner.run(together())
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        runner.run(together())
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # descriptors that something else has closed are no leak
    assert sorted(set(messages)) == [
        f"cannot await inside `with` namespace {each!r}" for each in ("blue", "green", "red")
    ]
    assert len(messages) == 6 * len(namespaces)


def test_await_inside_a_block_is_an_error_in_trio(netns: Lab) -> None:
    """In trio too: no other task runs inside, and the block ends with an error."""
    trio = pytest.importorskip("trio")
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    outside = network()
    seen = []

    async def bystander() -> None:
        for _ in range(5):
            seen.append(network())
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bystander)
            with pytest.raises(NetnsError, match=r"cannot await inside .*'red'"):
                with red, blue:
                    await trio.sleep(60)
            with red:
                assert network() != outside
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert set(seen) == {outside}


def test_a_forked_copy_is_where_it_goes_itself(netns: Lab) -> None:
    """A process forked inside a block can enter and leave another namespace, and returns to where it began."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    in_blue = blue.call(network)
    with red:
        in_red = network()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with blue:
                    entered = (network(), moving.current_inode())
                status = int((*entered, network(), moving.current_inode()) != (in_blue, in_blue, in_red, in_red))
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
