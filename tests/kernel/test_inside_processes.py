"""What is inside and what is outside: a test for each row of the README's table."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace

METHODS = ["spawn", "forkserver", "fork"]
SHOW = [sys.executable, "-c", "import os; print(os.stat('/proc/self/ns/net').st_ino)"]


def network(_: object = None) -> int:
    """The inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def inode(namespace: Namespace) -> int:
    """The inode of a namespace."""
    return namespace.call(network)


@pytest.fixture(scope="module", autouse=True)
def no_helpers_left() -> Iterator[None]:
    """End multiprocessing's own helper processes, which would run until pytest ends."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.fixture
def red(netns: Lab) -> Namespace:
    """A namespace."""
    return netns.add_namespace("red")


def test_a_thread_started_inside_stays_inside(red: Namespace) -> None:
    """A thread started inside a block is inside, even after the block has ended."""
    left, seen = threading.Event(), []

    def work() -> None:
        seen.append(network())
        left.wait(10)
        seen.append(network())

    with red:
        thread = threading.Thread(target=work)
        thread.start()
    left.set()
    thread.join()
    assert seen == [inode(red)] * 2


def test_a_thread_that_was_there_before_stays_outside(red: Namespace) -> None:
    """A thread started outside stays outside while another one is inside; only pools follow the submitter."""
    go, seen = threading.Event(), []

    def work() -> None:
        go.wait(10)
        seen.append(network())

    outside = network()
    thread = threading.Thread(target=work)
    thread.start()
    with red:
        go.set()
        thread.join()
        assert seen == [outside] != [network()]


def test_a_pool_made_inside_is_inside(red: Namespace) -> None:
    """The workers of a thread pool that is first used inside are inside, and so is asyncio.to_thread."""

    async def main() -> int:
        return await asyncio.to_thread(network)

    with red:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(network).result() == network()
        assert asyncio.run(main()) == network()


def test_a_plain_subprocess_is_inside(red: Namespace) -> None:
    """Processes of subprocess, os.fork and asyncio started inside a block are inside."""

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(*SHOW, stdout=-1)
        return int((await process.communicate())[0])

    with red:
        assert int(subprocess.check_output(SHOW)) == network()
        assert asyncio.run(main()) == network()
        receive, send = os.pipe()
        child = _fork_quietly()
        if child == 0:
            os.write(send, str(network()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert int(os.read(receive, 100)) == network()
        os.close(receive)
        os.close(send)


def test_a_process_that_was_there_before_stays_outside(red: Namespace) -> None:
    """A shell started outside runs its commands outside."""
    with subprocess.Popen("sh", stdin=-1, stdout=-1, text=True) as shell, red:
        assert shell.stdin is not None
        output, _ = shell.communicate("stat -Lc %i /proc/self/ns/net\n")
        assert int(output) != network()


def test_a_socket_belongs_where_it_was_made(red: Namespace, netns: Lab) -> None:
    """A socket stays in the network it was created in, whichever thread uses it, wherever that is."""
    blue = netns.add_namespace("blue")
    netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    with blue.create_server(("192.168.15.2", 80)) as listener, red.create_connection(("192.168.15.2", 80)) as client:
        with blue:
            client.sendall(b"x")
        connection, (address, _) = listener.accept()
        with connection:
            assert (address, connection.recv(1)) == ("192.168.15.1", b"x")


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_inside(red: Namespace, method: str) -> None:
    """A multiprocessing process started in a block is inside, with each of its three methods."""
    context = multiprocessing.get_context(method)
    expected = inode(red)
    with red, warnings.catch_warnings():
        # pytest's own process may have foreign threads; that ours cause no warning has its own test.
        warnings.simplefilter("ignore", DeprecationWarning)
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            assert pool.submit(network).result() == expected
        with context.Pool(1) as old_pool:
            assert old_pool.map(network, [0]) == [expected]


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_in_a_call(red: Namespace, method: str) -> None:
    """The same in ns.call."""

    def work() -> int:
        context = multiprocessing.get_context(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                return pool.submit(network).result()

    assert red.call(work) == inode(red)


def test_a_fork_server_is_not_shared_between_networks(red: Namespace, netns: Lab) -> None:
    """With one fork server first used outside, processes in red and blue are still in red and blue, and others outside."""
    context = multiprocessing.get_context("forkserver")
    blue = netns.add_namespace("blue")

    def start() -> int:
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            return pool.submit(network).result()

    outside = network()
    assert start() == outside
    for namespace in (red, blue, red):
        with namespace:
            assert start() == network()
    assert start() == outside


def test_multiprocessing_works_after_the_lab() -> None:
    """Its helper processes do not end with a lab, or are restarted silently."""
    context = multiprocessing.get_context("spawn")
    with Lab() as lab:
        red = lab.add_namespace("red")
        with red, concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            assert pool.submit(network).result() == network()
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        assert pool.submit(network).result() == network()
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    assert os.stat(f"/proc/{tracker}/ns/net").st_ino == network()


def test_a_forked_child_may_start_programs_in_the_lab(red: Namespace) -> None:
    """In a child that was forked after a program has run, ns.run works and does not wait for a thread it lacks."""
    red.run("true")
    receive, send = os.pipe()
    child = _fork_quietly()
    if child == 0:
        status = 1
        try:
            os.write(send, red.run(["cat", "/etc/hosts"]).stdout.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive) as output:
        assert "127.0.0.1 red" in output.read()
    assert os.waitpid(child, 0)[1] == 0


DAEMON = """
import os
from pytest_netns import Lab

def network():
    return os.readlink("/proc/thread-self/ns/net")

pid = os.fork()
if pid:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.closerange(3, 256)
outside = network()
with Lab() as lab:
    red = lab.add_namespace("red")
    assert network() == outside
    with red:
        assert network() != outside
    assert network() == outside
    red.run(["true"])
"""


def test_a_daemon_may_have_labs() -> None:
    """A forked child that has closed all descriptors, as daemons do, creates namespaces, enters them and gets back."""
    done = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


CLOSE_ALL = """
import os
from pytest_netns import Lab

with Lab() as lab:
    with lab.add_namespace("red"):
        os.closerange(3, 256)
    print("in the wrong network")
"""


def test_a_process_that_cannot_go_back_ends() -> None:
    """If a test has closed the descriptor of the namespace it came from, the process ends at once with a message."""
    done = subprocess.run([sys.executable, "-c", CLOSE_ALL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (os.EX_SOFTWARE, "")
    assert "pytest-netns: cannot leave network namespace 'red': " in done.stderr


def test_async_programs_are_as_asyncio_s(netns_pair: Lab) -> None:
    """create_subprocess_exec: streams, exit status, signals; the process runs in the namespace, with its names."""
    red = netns_pair["red"]

    async def main() -> None:
        process = await red.create_subprocess_exec(
            "sh", "-c", "read word; echo $word $$; getent hosts blue; hostname; exit 3", stdin=-1, stdout=-1, stderr=-1
        )
        output, errors = await process.communicate(b"hello\n")
        lines = output.decode().split("\n")
        word, pid = lines[0].split()
        assert word == "hello"
        assert int(pid) < 100, "not a PID in a separate PID namespace"
        assert lines[1].split() == ["192.168.15.2", "blue"]
        assert lines[2] == "red"
        assert (errors, process.returncode) == (b"", 3)
        sleeper = await red.create_subprocess_exec("sleep", "60")
        assert sleeper.returncode is None
        sleeper.terminate()
        assert await sleeper.wait() == -15
        with pytest.raises(FileNotFoundError):
            await red.create_subprocess_exec("/no/such/program")

    asyncio.run(main())


def test_async_programs_end_with_the_lab() -> None:
    """A program that asyncio has started and abandoned is dead once its lab is closed."""
    with Lab() as lab:
        red = lab.add_namespace("red")

        async def main() -> int:
            process = await red.create_subprocess_exec("sleep", "60")
            lab.close()
            await process.wait()
            return process.pid

        pid = asyncio.run(main())
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns since 3.12")
def test_our_threads_are_not_what_a_fork_is_warned_about(netns: Lab) -> None:
    """A process with only threads of the plugin forks without a DeprecationWarning; with others it is warned."""
    code = """
import os, threading, warnings
from pytest_netns import Lab

def warned():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return [each.category.__name__ for each in seen]

with Lab() as lab:
    red = lab.add_namespace("red")
    red.run("true")
    red.start(["sleep", "60"])
    print(threading.active_count(), warned())
    release = threading.Event()
    threading.Thread(target=release.wait).start()
    print(warned())
    release.set()
"""
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output == "3 []\n['DeprecationWarning']\n"


def _fork_quietly() -> int:
    """os.fork, ignoring Python's warning about foreign threads in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
