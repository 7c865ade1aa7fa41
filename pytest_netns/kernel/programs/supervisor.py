"""The program above all processes that tests start: ``python -I -S supervisor.py``.

It is two processes. The *watchdog* (watchdog.py) stays in pytest's PID namespace: when pytest dies, in whatever way, it
kills the other one and what is left in pytest's network namespaces. The other, the *supervisor*, is the first process
of a PID namespace: when it ends, the kernel kills everything below it at once. On request it forks an *init* per network
namespace: first process of a nested PID namespace with its own mount and host-name view.

Standard library only, and run outside of the package: starting it must be quick, and it must not depend on what tests
do to their interpreter.

Protocol, over a SOCK_SEQPACKET pair: the supervisor first sends ``ready`` and a line for each thing it lacks. A request
is a namespace's name with its descriptor; the answer is ``ok`` and a line for each thing the init lacks, with a pidfd of
the init, or ``error`` and the reason. The watchdog has a pair of its own, see there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

if __name__ == "__main__":
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]
    import mounts  # type: ignore[import-not-found]
    import syscalls  # type: ignore[import-not-found]
    import watchdog  # type: ignore[import-not-found]
else:
    from pytest_netns.kernel.programs import mounts, watchdog
    from pytest_netns.kernel.system import syscalls

MAX_MESSAGE = 4096


def main(arguments: list[str]) -> None:
    """Arguments: descriptors of pytest's pidfd, the control and watch sockets, and a netlink socket; then pidfds of further owners."""
    owner, control_fd, watch_fd, netlink_fd, *controllers = (int(argument) for argument in arguments)
    os.umask(0o022)  # every user may read what namespaces have for themselves
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    watch = socket.socket(fileno=watch_fd)
    netlink = socket.socket(fileno=netlink_fd)
    lacks = []
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        lacks.append(f"PID namespace: {error.strerror}")
    guardian, pytest = os.pidfd_open(os.getpid()), os.getppid()
    supervisor = os.fork()
    if supervisor == 0:
        watch.close()
        netlink.close()
        mounts.keep_peers(pytest)
        status = 1
        try:
            control.send("\n".join(["ready", *lacks]).encode())
            serve(control, [owner, guardian], own_pids=not lacks)
            status = 0
        finally:
            os._exit(status)
    control.close()
    os.close(guardian)
    watchdog.keep_watch(owner, controllers, watch, watchdog.Registry(netlink), supervisor)


# -- the supervisor --------------------------------------------------------------------------------


def serve(control: socket.socket, owners: list[int], *, own_pids: bool) -> None:
    """Answer requests until pytest or the watchdog has gone."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    for descriptor in (*owners, control.fileno()):
        poll.register(descriptor, select.POLLIN)
    signal.signal(signal.SIGCHLD, lambda number, frame: reap())
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ready & set(owners):
            return
        name, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not name or not descriptors:
            return
        try:
            pid, lacks = fork_init(name.decode(), descriptors[0], home if own_pids else -1)
            try:
                pidfd = os.pidfd_open(pid)
                socket.send_fds(control, ["\n".join(["ok", *lacks]).encode()], [pidfd])
                os.close(pidfd)
            except OSError:
                os.kill(pid, signal.SIGKILL)  # nobody will ever know of it
                raise
        except OSError as error:
            control.send(f"error\n{error}".encode())
        os.close(descriptors[0])


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
