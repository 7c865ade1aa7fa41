"""The supervisor of all processes that tests start: ``python -I -S supervisor.py``.

It is two processes. The *watchdog* (watchdog.py) stays in pytest's PID namespace: when pytest ends for any reason, it
kills the other one and what is left in pytest's network namespaces. The other, the *supervisor*, is the first process
of a PID namespace: when it ends, the kernel kills everything below it at once. On request it forks an *init* per network
namespace: first process of a nested PID namespace with its own mount and host-name view.

The process that pytest starts forks the watchdog and ends: neither is a child of pytest, as tests may wait for all
their children.

Standard library only, and run outside of the package: it must start quickly, and must not depend on what tests
do to their interpreter.

Protocol, over a SOCK_SEQPACKET pair: a request is three lines: its number, the number of the last init that pytest has
received, and a namespace's name, with the namespace's descriptor; without a name no init is created. The answer begins with the
request's number, then ``ok`` and a line for each part that was refused, with a pidfd of the init; or ``error`` and the reason.
An exception may keep pytest from reading an answer, so answers are numbered, and an init that was not received is killed
at the next request. The watchdog has its own pair, see there.
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
    """Arguments: the directory of pytest's descriptors; its PID; descriptors of its pidfd, the control and watch sockets, and a netlink socket; then pidfds of further owners."""
    import resource  # missing on Windows, on which suites import this module too

    descriptors_directory = arguments[0]  # passed, since pytest may have ended by now
    owner_pid, owner, control_fd, watch_fd, netlink_fd, *controllers = map(int, arguments[1:])
    if os.fork():
        os._exit(0)
    os.umask(0o022)  # every user may read the namespaces' own files
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # numbers above 100 are used, see mounts.py
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    watch = socket.socket(fileno=watch_fd)
    netlink = socket.socket(fileno=netlink_fd)
    watchdog.announce(watch)
    refused: list[str] = []
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        refused.append(f"PID namespace: {error.strerror}")
    watchdog_pidfd = os.pidfd_open(os.getpid())
    supervisor = os.fork()
    if supervisor == 0:
        watch.close()
        netlink.close()
        mounts.open_peers(owner_pid)
        status = 1
        try:
            serve(control, [owner, watchdog_pidfd], refused)
            status = 0
        finally:
            os._exit(status)
    control.close()
    os.close(watchdog_pidfd)
    registry = watchdog.Registry(netlink)
    watchdog.watch_owner(owner_pid, owner, controllers, watch, registry, supervisor)
    mounts.remove_descriptors_directory(descriptors_directory)


# -- the supervisor --------------------------------------------------------------------------------


def serve(control: socket.socket, owners: list[int], refused: list[str]) -> None:
    """Answer requests until pytest or the watchdog has ended.

    Args:
        control: pytest's connection.
        owners: pidfds of pytest and the watchdog.
        refused: a line for each part refused to the supervisor itself.
    """
    home = -1 if refused else os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    for descriptor in (*owners, control.fileno()):
        poll.register(descriptor, select.POLLIN)
    signal.signal(signal.SIGCHLD, lambda number, frame: reap())
    last: tuple[str, int] | None = None  # the most recent init: its number and pidfd
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ready & set(owners):
            return
        request, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not request:
            return
        number, received, name = request.decode().split("\n")
        if last is not None:
            if last[0] != received:
                end(last[1])
            os.close(last[1])
            last = None
        if not name:
            control.send("\n".join([number, "ok", *refused]).encode())
            continue
        try:
            if not descriptors:
                raise OSError(0, "the descriptor of its namespace is missing")
            pidfd, init_refused = make_init(name, descriptors[0], home)
            last = number, pidfd
            socket.send_fds(control, ["\n".join([number, "ok", *refused, *init_refused]).encode()], [pidfd])
        except OSError as error:
            if last is not None:
                end(last[1])
            control.send(f"{number}\nerror\n{error}".encode())
        for descriptor in descriptors:
            os.close(descriptor)


def make_init(name: str, namespace: int, home: int) -> tuple[int, list[str]]:
    """Create an init; returns its pidfd and the parts refused to it, once it is ready."""
    pid, refused = fork_init(name, namespace, home)
    try:
        return os.pidfd_open(pid), refused
    except OSError:
        os.kill(pid, signal.SIGKILL)  # no other process knows of it
        raise


def end(pidfd: int) -> None:
    """Kill the process of a pidfd, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def reap() -> None:
    """Reap ended children, so that none stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_init(name: str, namespace: int, home: int) -> tuple[int, list[str]]:
    """Fork an init; returns its PID and the parts refused to it, once it is ready."""
    receive, send = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # read the answer before reaping
    try:
        if home >= 0:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
        except BaseException:
            if home >= 0:
                restore_pid_namespace(home)
            raise
        if pid == 0:
            run_init(name, namespace, send)
        if home >= 0:
            restore_pid_namespace(home)
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
    status, *refused = answer.decode().splitlines() or ["ended before it was ready"]
    if status != "ready":
        raise OSError(0, status)
    return pid, refused


def restore_pid_namespace(namespace: int) -> None:
    """Create further children in the supervisor's own PID namespace again; ends the supervisor if that fails."""
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWPID)
    except OSError:
        os._exit(1)


# -- an init ---------------------------------------------------------------------------------------


def run_init(name: str, namespace: int, ready: int) -> None:
    """Become the init process of a namespace; never returns."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        refused = mounts.make_view(name)
        os.write(ready, "\n".join(["ready", *refused]).encode())
        mounts.close_others()
        reap_orphans()
    except BaseException as error:
        os.write(ready, f"init: {error}".encode())
    finally:
        os._exit(1)


def reap_orphans() -> None:
    """Reap orphans. On SIGTERM, send it to all processes and end once none is left."""
    ending = False
    while True:
        if signal.sigwait([signal.SIGCHLD, signal.SIGTERM]) == signal.SIGTERM and not ending:
            if os.getpid() != 1:  # no PID namespace of our own: -1 would signal the whole machine
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
    os._exit(0)  # pytest waits for the exit; there is nothing to finalize
