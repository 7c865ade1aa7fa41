"""What keeps a namespace alive after its lab is named in its test's report; other things do not keep one alive."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_netns import KernelError, Lab
from pytest_netns.kernel.spaces import destruction, holders, netns
from pytest_netns.kernel.spaces.destruction import Watched
from pytest_netns.kernel.system import syscalls

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HOLD = "import os, signal, sys; print(flush=True); os.close(1); signal.pause()"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("leaks") as lab:
        yield lab


def is_gone(watched: Watched, within: float = 10) -> bool:
    """Whether the kernel reports within a number of seconds that a closed namespace is gone."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while watched in destruction.hub().alive():
        if time.monotonic() >= deadline:
            return False
        pause.wait(0.002)
    return True


def closed(lab: Lab) -> Watched:
    """Close a lab with one namespace; returns its watch."""
    (namespace,) = lab
    inode = namespace._kernel.inode
    lab.close()
    (watched,) = (watched for watched in destruction.hub().alive() if watched.inode == inode)
    return watched


def check_pinned(lab: Lab, expected: str, release: Callable[[], object]) -> None:
    """Something pins the lab's namespace: it is alive after closing, the holder is named, and it goes once released."""
    watched = closed(lab)
    try:
        found = holders.find(watched.inode)
        assert not is_gone(watched, 0.1)
        assert [each for each in found if expected in each.text], found
    finally:
        release()
    assert is_gone(watched)


def ender(process: subprocess.Popen[bytes]) -> Callable[[], object]:
    def end() -> None:
        process.kill()
        process.communicate()

    return end


def test_nothing_holds_it(lab: Lab) -> None:
    """A namespace with processes and connections is gone once its lab is closed."""
    red = lab.add_namespace("red")
    red.popen(["sleep", "1000"])
    assert is_gone(closed(lab))


def test_descriptor_in_a_daemon(lab: Lab) -> None:
    """A descriptor passed to a program outside is named with the process."""
    red = lab.add_namespace("red")
    program = subprocess.Popen([sys.executable, "-ISc", HOLD], stdout=subprocess.PIPE, pass_fds=[red._kernel.fd])
    assert program.stdout is not None
    program.stdout.read()
    check_pinned(
        lab, f"descriptor {red._kernel.fd} (net:[{red._kernel.inode}]) of process {program.pid} (python", ender(program)
    )


def test_descriptor_in_a_forked_child(lab: Lab) -> None:
    """A child forked without exec holds everything that pytest held, close-on-exec or not."""
    lab.add_namespace("red")
    pid = os.fork()
    if pid == 0:
        signal.pause()

    def end() -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    check_pinned(lab, f"of process {pid} ", end)


def test_process_inside(lab: Lab) -> None:
    """A process inside that teardown could not see, because it entered later, is named."""
    red = lab.add_namespace("red")
    enter = f"""
import ctypes, os, sys
fd = {red._kernel.fd}
assert ctypes.CDLL(None).setns(fd, {syscalls.CLONE_NEWNET}) == 0
os.close(fd)
{HOLD}
"""
    program = subprocess.Popen([sys.executable, "-ISc", enter], stdout=subprocess.PIPE, pass_fds=[red._kernel.fd])
    assert program.stdout is not None
    program.stdout.read()
    check_pinned(lab, f"thread {program.pid} of process {program.pid} (python", ender(program))


def test_lone_socket(lab: Lab) -> None:
    """A socket of the namespace, kept by the test process, is named."""
    kept = lab.add_namespace("red").socket()
    check_pinned(lab, f"socket {kept.fileno()} of process {os.getpid()} ", kept.close)


def test_lone_socket_of_another_process(lab: Lab) -> None:
    """A socket of the namespace, passed to another process, is named with it."""
    with lab.add_namespace("red").socket() as kept:
        program = subprocess.Popen([sys.executable, "-ISc", HOLD], stdout=subprocess.PIPE, pass_fds=[kept.fileno()])
        number = kept.fileno()
    assert program.stdout is not None
    program.stdout.read()
    check_pinned(lab, f"socket {number} of process {program.pid} ", ender(program))


def test_open_proc_file(lab: Lab) -> None:
    """An open /proc/net file is named."""
    with lab.add_namespace("red"):
        kept = open("/proc/thread-self/net/dev")  # noqa: SIM115
    check_pinned(lab, f"descriptor {kept.fileno()} (/proc/{os.getpid()}/task/", kept.close)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_descriptor_queued_in_a_unix_socket(lab: Lab, kind: socket.SocketKind) -> None:
    """A descriptor in flight is in no list: the socket in which it is queued, and that socket's owner, are named."""
    red = lab.add_namespace("red")
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    socket.send_fds(one, [b"x"], [red._kernel.fd])

    def release() -> None:
        one.close()
        other.close()

    watched = closed(lab)
    try:
        assert not is_gone(watched, 0.1)
        assert holders.find(watched.inode) == []
        socket_of_ours = f"unix socket {other.fileno()} of process {os.getpid()} "
        (phrase,) = (phrase for phrase in holders.suspects() if phrase.startswith(socket_of_ours))
        assert phrase.endswith("has descriptors in flight (1), perhaps of it")
    finally:
        release()
    assert is_gone(watched)
    assert not [phrase for phrase in holders.suspects() if phrase.startswith(socket_of_ours)]


def test_bind_mount(lab: Lab, tmp_path: Path) -> None:
    """A bind mount of the namespace is named with its path and a process that sees it."""
    red = lab.add_namespace("red")
    target = tmp_path / "bound"
    target.touch()
    pid = f"/proc/{os.getpid()}/fd/{red._kernel.fd}"
    mount = f"""
import ctypes, os
libc = ctypes.CDLL(None)
assert libc.unshare({syscalls.CLONE_NEWNS}) == 0
assert libc.mount(b"", b"/", None, {syscalls.MS_REC | syscalls.MS_SLAVE}, None) == 0
assert libc.mount(b"{pid}", b"{target}", None, {syscalls.MS_BIND}, None) == 0
{HOLD}
"""
    program = subprocess.Popen([sys.executable, "-ISc", mount], stdout=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.read()
    check_pinned(lab, f"mount {target} of process {program.pid} ", ender(program))


def test_thread_of_pytest(lab: Lab) -> None:
    """A thread of the test process that stayed inside is named."""
    red = lab.add_namespace("red")
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        syscalls.setns(red._kernel.fd, syscalls.CLONE_NEWNET)
        entered.set()
        leave.wait()

    thread = threading.Thread(target=stay, name="stays")
    thread.start()
    entered.wait()

    def end() -> None:
        leave.set()
        thread.join()

    check_pinned(lab, f"thread {thread.native_id} ", end)


def test_peer_elsewhere_does_not_hold(lab: Lab) -> None:
    """The other end of a veth pair, in a namespace that lives on, does not keep one alive."""
    red = lab.add_namespace("red")
    with Lab("other") as other:
        blue = other.add_namespace("blue")
        red.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"])
        with red:
            subprocess.run(
                ["ip", "link", "set", "two", "netns", f"/proc/{os.getpid()}/fd/{blue._kernel.fd}"], check=True
            )
        assert "two" in blue.interfaces
        assert is_gone(closed(lab))


def test_no_end_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel's notifications overflowed, later ends are still seen."""
    hub = destruction.Hub()
    hub._events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the minimum
    namespaces = [netns.NetworkNamespace.create(f"red{number}") for number in range(20)]
    watched = [hub.watch(namespace, "leaks") for namespace in namespaces]
    assert hub.alive() == []  # reads the overflow error
    watched[-1].closed = time.monotonic()
    namespaces[-1].close()
    pause = threading.Event()
    while len(hub._nsids()) == len(namespaces):
        pause.wait(0.002)
    monkeypatch.setattr(hub, "_refresh", lambda: pytest.fail("an end was missed"))
    hub.wait(2)
    for namespace in namespaces:
        namespace.close()
    hub.close()


def test_a_frozen_clock_hides_no_leak(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace closed while a test has stopped Python's clocks, like freezegun, is overdue after its time."""
    held = os.dup(lab.add_namespace("red")._kernel.fd)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    watched = closed(lab)
    destruction.hub().wait(0.05)
    assert watched in destruction.hub().overdue(0.05)
    assert watched not in destruction.hub().overdue(60)
    os.close(held)
    destruction.hub().wait(destruction.BUSY_GRACE)
    assert watched not in destruction.hub().alive()


def test_one_that_could_not_be_added_is_not_kept_by_a_recording(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture socket exists before the namespace belongs to the lab; if that fails, it goes with the namespace."""
    lab.captures.record()
    hub = destruction.hub()
    watch, made = hub.watch, []

    def fail(kernel: netns.NetworkNamespace, owner: str) -> Watched:
        made.append(watch(kernel, owner))
        made[0].closed = time.monotonic()
        raise KernelError("watch a namespace", errno.ENOMEM)

    with monkeypatch.context() as patch:
        patch.setattr(hub, "watch", fail)
        with pytest.raises(KernelError, match="cannot watch a namespace"):
            lab.add_namespace("red")
    assert is_gone(made[0])
    assert lab.add_namespace("red").name in lab


def test_orphaned_connection() -> None:
    """An orphaned TCP connection with unsent data over a dead link ends within 2 s (0.7 s, by default 104 s).

    The machine may be busy: one success out of several tries is enough.
    """
    assert any(orphan_ends(within=2) for _ in range(5))


def orphan_ends(within: float) -> bool:
    """Close a lab with an orphaned connection; returns whether its namespaces are freed within a number of seconds."""
    with Lab("leaks") as lab:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        pair = lab.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
        inodes = {red._kernel.inode, blue._kernel.inode}
        with blue.socket() as listener:
            listener.bind(("192.168.15.2", 80))
            listener.listen()
            client = red.socket()
            client.connect(("192.168.15.2", 80))
            server, _ = listener.accept()
            pair.b.down()
            client.send(b"never acknowledged")
            client.close()
            server.close()
    return all(is_gone(watched, within) for watched in destruction.hub().alive() if watched.inode in inodes)
