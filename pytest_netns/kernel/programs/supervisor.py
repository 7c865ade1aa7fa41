"""The program above all processes that tests start: ``python -I -S supervisor.py``.

It is two processes. The *watchdog* (watchdog.py) stays in pytest's PID namespace: when pytest dies, in whatever way, it
kills the other one and what is left in pytest's network namespaces. The other, the *supervisor*, is the first process
of a PID namespace: when it ends, the kernel kills everything below it at once. On request it forks an *init* per network
namespace: first process of a nested PID namespace with its own mount and host-name view.

The process that pytest starts forks the watchdog and ends: neither is a child of pytest, whose tests may wait for all of
their children.

Standard library only, and run outside of the package: starting it must be quick, and it must not depend on what tests
do to their interpreter.

Protocol, over a SOCK_SEQPACKET pair: a request is three lines: its number, the number of the last init that pytest has
taken, and a namespace's name, with the namespace's descriptor; without a name nothing is made. The answer begins with the
request's number, then ``ok`` and a line for each thing that is lacking, with a pidfd of the init; or ``error`` and the reason.
An exception may keep pytest from taking an answer, so one is known by its number, and an init that was not taken is killed
at the next request. The watchdog has a pair of its own, see there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False  # as in typing, which takes too long to import here
if TYPE_CHECKING or __package__:
    from pytest_netns.kernel.programs import mounts, watchdog
    from pytest_netns.kernel.system import syscalls
else:
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]
    import mounts
    import syscalls
    import watchdog

MAX_MESSAGE = 4096


def main(arguments: list[str]) -> None:
    """Arguments: where pytest's descriptors have paths; its PID; descriptors of its pidfd, the control and watch sockets, and a netlink socket; then pidfds of further owners."""
    paths = arguments[0]  # told, since pytest may have ended by now
    owner_pid, owner, control_fd, watch_fd, netlink_fd, *controllers = map(int, arguments[1:])
    if os.fork():
        os._exit(0)
    os.umask(0o022)  # every user may read what namespaces have for themselves
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    watch = socket.socket(fileno=watch_fd)
    netlink = socket.socket(fileno=netlink_fd)
    watchdog.introduce(watch)
    lacks = []
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        lacks.append(f"PID namespace: {error.strerror}")
    guardian = os.pidfd_open(os.getpid())
    supervisor = os.fork()
    if supervisor == 0:
        watch.close()
        netlink.close()
        mounts.keep_peers(owner_pid)
        status = 1
        try:
            serve(control, [owner, guardian], lacks)
            status = 0
        finally:
            os._exit(status)
    control.close()
    os.close(guardian)
    registry = watchdog.Registry(netlink)
    watchdog.keep_watch(owner_pid, owner, controllers, watch, registry, supervisor)
    mounts.remove_descriptors_directory(paths)


# -- the supervisor --------------------------------------------------------------------------------


def serve(control: socket.socket, owners: list[int], lacks: list[str]) -> None:
    """Answer requests until pytest or the watchdog has gone.

    Args:
        control: pytest's connection.
        owners: pidfds of pytest and the watchdog.
        lacks: a line for each thing that the supervisor itself has to do without.
    """
    home = -1 if lacks else os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    for descriptor in (*owners, control.fileno()):
        poll.register(descriptor, select.POLLIN)
    signal.signal(signal.SIGCHLD, lambda number, frame: reap())
    last: tuple[str, int] | None = None  # the init made last: its number and pidfd
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ready & set(owners):
            return
        request, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not request:
            return
        number, taken, name = request.decode().split("\n")
        if last is not None:
            if last[0] != taken:
                end(last[1])
            os.close(last[1])
            last = None
        if not name:
            control.send("\n".join([number, "ok", *lacks]).encode())
            continue
        try:
            if not descriptors:
                raise OSError(0, "the descriptor of its namespace has not arrived")
            pidfd, init_lacks = make_init(name, descriptors[0], home)
            last = number, pidfd
            socket.send_fds(control, ["\n".join([number, "ok", *lacks, *init_lacks]).encode()], [pidfd])
        except OSError as error:
            if last is not None:
                end(last[1])
            control.send(f"{number}\nerror\n{error}".encode())
        for descriptor in descriptors:
            os.close(descriptor)


def make_init(name: str, namespace: int, home: int) -> tuple[int, list[str]]:
    """A new init; returns a pidfd of it and what it lacks, once it is ready."""
    pid, lacks = fork_init(name, namespace, home)
    try:
        return os.pidfd_open(pid), lacks
    except OSError:
        os.kill(pid, signal.SIGKILL)  # nobody will ever know of it
        raise


def end(pidfd: int) -> None:
    """Kill the process behind a pidfd, if it has not ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def reap() -> None:
    """Collect ended children, so that none stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_init(name: str, namespace: int, home: int) -> tuple[int, list[str]]:
    """A new init; returns its PID and what it lacks, once it is ready."""
    receive, send = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # the answer is read before anything is reaped
    try:
        if home >= 0:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
        except BaseException:
            if home >= 0:
                go_home(home)
            raise
        if pid == 0:
            run_init(name, namespace, send)
        if home >= 0:
            go_home(home)
        os.close(send)
        send = -1
        answer = b""
        try:
            while chunk := os.read(receive, MAX_MESSAGE):
                answer += chunk
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
    finally:
        os.close(receive)
        if send >= 0:
            os.close(send)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    first, *lacks = answer.decode().splitlines() or ["ended before it was ready"]
    if first != "ready":
        raise OSError(0, first)
    return pid, lacks


def go_home(namespace: int) -> None:
    """Have the next child in the supervisor's own PID namespace again; without that it is of no use, and ends."""
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWPID)
    except OSError:
        os._exit(1)


# -- an init ---------------------------------------------------------------------------------------


def run_init(name: str, namespace: int, ready: int) -> None:
    """Become the first process of a namespace's processes; never returns."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        lacks = mounts.make_view(name)
        os.write(ready, "\n".join(["ready", *lacks]).encode())
        mounts.close_others()
        look_after_orphans()
    except BaseException as error:
        os.write(ready, f"init: {error}".encode())
    finally:
        os._exit(1)


def look_after_orphans() -> None:
    """Reap what is left to us; on SIGTERM pass it on to everybody, and end once nobody is left."""
    ending = False
    while True:
        if signal.sigwait([signal.SIGCHLD, signal.SIGTERM]) == signal.SIGTERM and not ending:
            if os.getpid() != 1:  # not in a PID namespace of our own: "everybody" would be the whole machine
                os._exit(0)
            ending = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGTERM)
        reap()
        if ending:
            try:
                os.kill(-1, 0)
            except ProcessLookupError:
                os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # pytest waits for the end; there is nothing to finalize
