"""pytest's side of the supervisor: started on first use, once per process, and replaced if it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading

from pytest_netns.errors import NetnsError, UnavailableError
from pytest_netns.kernel.programs import mounts, watchdog
from pytest_netns.kernel.programs import supervisor as program
from pytest_netns.kernel.programs.inits import Init, Refusal, kill, pid_of, wait_ended
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace, are_open, home
from pytest_netns.kernel.system import forking, interrupts, once, own_programs, sockets

_START_TIMEOUT = 20.0  # seconds; it takes about 20 ms, much longer on a loaded machine
_END_TIMEOUT = 5.0
_SEND_TRIES = 3

_controllers: list[int] = []  # PIDs of processes whose end also ends this one
_refused: dict[Refusal, None] = {}  # the parts that the environment has refused any init so far, in order


class Supervisor:
    """The running supervisor and its watchdog."""

    def __init__(self) -> None:
        if not sys.executable:
            raise UnavailableError("processes in namespaces", "Python does not know its own executable")
        self._lock = threading.Lock()  # one request at a time
        self._last_request = 0  # the number of the last request
        self._last_taken = 0  # the number of the last init that pytest has received
        self._watchdog: tuple[int, int] | None = None
        with contextlib.ExitStack() as undo:
            self._stderr = os.memfd_create("netns-supervisor", os.MFD_CLOEXEC)
            undo.callback(os.close, self._stderr)
            with home():  # unix sockets belong to a namespace too, and would keep a lab's alive
                self._control, control = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._control.close)
                self._watch, watch = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._watch.close)
                # The program may run even if subprocess fails: it can fail while waiting for the result of the start.
                undo.callback(self._send_replaced)
                self._control.settimeout(_START_TIMEOUT)
                self._watch.settimeout(_START_TIMEOUT)
                with control, watch, contextlib.closing(destruction.hub().another_socket()) as netlink:
                    passed = (control.fileno(), watch.fileno(), netlink.fileno())
                    self._starter = _start_program(*passed, self._stderr)
            undo.pop_all()

    @property
    def pid(self) -> int:
        """The watchdog's PID; waits until it runs.

        Raises:
            OSError: this process has reached its limit on open files.
        """
        return self._watchdog_process()[0]

    def wait_ready(self) -> None:
        """Wait until it can create inits. An init that pytest has requested but not received is killed.

        Raises:
            NetnsError: it has died.
            OSError: this process has reached its limit on open files.
        """
        with self._lock:
            self._request("", [])

    @interrupts.uninterrupted
    def request_init(self, namespace: NetworkNamespace) -> Init:
        """Have the supervisor fork an init for a namespace.

        Raises:
            NetnsError: the supervisor has died, or the init could not be created.
            OSError: this process has reached its limit on open files.
        """
        with self._lock:
            status, lines, descriptors = self._request(namespace.name, [namespace.fd])
            if status != "ok" or not descriptors:
                _close_all(descriptors)
                if status != "error":
                    raise self._dead()
                raise NetnsError(f"cannot start the init process of namespace {namespace.name!r}: {' '.join(lines)}")
            try:
                init = Init(pid_of(descriptors[0]), descriptors[0], tuple(map(Refusal.parse, lines)))
            except BaseException:
                kill(descriptors[0], signal.SIGKILL)
                os.close(descriptors[0])
                raise
            self._last_taken = self._last_request
            _refused.update(dict.fromkeys(init.refused))
            return init

    def forget_lost(self) -> None:
        """End an init whose answer was not read because of an exception, if there is one."""
        if self._last_taken != self._last_request:
            with contextlib.suppress(NetnsError):
                self.wait_ready()

    def _request(self, name: str, descriptors: list[int]) -> tuple[str, list[str], list[int]]:
        """Send a request and read its answer: status, further lines and descriptors; the lock is held."""
        self._watchdog_process()
        self._last_request += 1
        number = str(self._last_request)
        try:
            socket.send_fds(self._control, ["\n".join([number, str(self._last_taken), name]).encode()], descriptors)
            while True:
                answer, received, is_lost = _receive(self._control)
                answered, *lines = answer.decode().split("\n")
                if not answered:
                    raise self._dead()
                if answered == number:
                    break
                _close_all(received)  # of an earlier request whose answer was not read because of an exception
        except OSError as error:
            self._kill()  # it may have created an unknown init
            raise self._dead() from error
        if is_lost:  # the next request ends this init
            raise _too_many_files()
        if not name:
            self._last_taken = self._last_request
        return lines[0], lines[1:], received

    @interrupts.uninterrupted
    def _watchdog_process(self) -> tuple[int, int]:
        """The watchdog's PID and pidfd, which it sends first."""
        if self._watchdog is None:
            try:
                pid, pidfds, is_lost = _receive(self._watch)
            except OSError as error:
                raise self._dead() from error
            if is_lost:  # without its pidfd it cannot be used: it is replaced when it is next needed
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                self._control.close()
                raise _too_many_files()
            if not pid or not pidfds:
                raise self._dead()
            self._watchdog = int(pid), pidfds[0]
            self._starter.wait()  # it has ended once there is a watchdog
        return self._watchdog

    def is_alive(self) -> bool:
        """Whether it still runs or is starting."""
        if self._control.fileno() < 0:  # another thread has dismissed it
            return False
        poll = select.poll()
        poll.register(self._control, 0)
        poll.register(self._watch, 0)
        return not poll.poll(0)

    def dismiss(self) -> None:
        """End the rest of it if one of its processes has died. Processes in pytest's namespaces must live on: the next one watches them."""
        self._send_replaced()
        self.close()

    def _send_replaced(self) -> None:
        for _ in range(_SEND_TRIES):  # the kernel may be temporarily out of memory
            with contextlib.suppress(OSError):
                self._watch.send(watchdog.REPLACED)
                break

    def close(self) -> None:
        """End it, everything it supervises and all processes in pytest's namespaces; waits until they have ended."""
        with contextlib.suppress(NetnsError, OSError):
            self._watchdog_process()
        self._control.close()
        self._watch.close()
        if self._watchdog is None:  # it never started
            self._starter.kill()
            self._starter.wait()
        else:
            (pid, pidfd), self._watchdog = self._watchdog, None
            if not wait_ended(pidfd, _END_TIMEOUT):
                kill(pidfd, signal.SIGKILL)
                wait_ended(pidfd, _END_TIMEOUT)
            os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # if pytest is PID 1 of a container, orphans become its children
        stderr, self._stderr = self._stderr, -1
        os.close(stderr)

    def abandon(self) -> None:
        """In a forked child: close what belongs to the parent."""
        self._control.close()
        self._watch.close()
        os.close(self._stderr)
        if self._watchdog is not None:
            os.close(self._watchdog[1])
        self._starter.returncode = 0

    def _kill(self) -> None:
        if self._watchdog is not None:
            kill(self._watchdog[1], signal.SIGKILL)

    def _dead(self) -> NetnsError:
        """The error to raise if it has died: how, and what it wrote to stderr."""
        who = "" if self._watchdog is None else f" (PID {self._watchdog[0]})"
        how = "has died"
        if self._control.fileno() < 0:
            how = "has been ended"
        elif self.is_alive():
            how = f"does not answer within {_START_TIMEOUT:g} s"
        elif self._watchdog is None:  # it has closed its socket, so it is about to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = f"ended during start-up with exit status {self._starter.wait(_END_TIMEOUT)}"
        stderr = ""
        if self._stderr >= 0:
            stderr = os.pread(self._stderr, program.MAX_MESSAGE, 0).decode(errors="replace").strip()
        return NetnsError(
            f"cannot start processes: the supervisor process{who} {how}{f': {stderr}' if stderr else ''}; "
            "the programs under it have ended; new labs work"
        )


def _receive(connection: socket.socket) -> tuple[bytes, list[int], bool]:
    """A message, its descriptor if it has one, and whether that was lost: if this process can open no more files, recv(2)."""
    message, descriptors, flags, _ = socket.recv_fds(connection, program.MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
    return message, descriptors, bool(flags & socket.MSG_CTRUNC)


def _too_many_files() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _start_program(control: int, watch: int, netlink: int, stderr: int) -> subprocess.Popen[bytes]:
    """Start supervisor.py with a pidfd of each process whose end must end it."""
    with contextlib.ExitStack() as stack:
        pidfds: list[int] = []
        for pid in (os.getpid(), *_controllers):
            pidfds.append(os.pidfd_open(pid))
            stack.callback(os.close, pidfds[-1])
        passed = [pidfds[0], control, watch, netlink, *pidfds[1:]]
        directory = mounts.descriptors_directory(os.getpid())
        return own_programs.start(program.__file__, directory, os.getpid(), *passed, descriptors=passed, stderr=stderr)


def end_with(pid: int) -> None:
    """End this process when another one ends: the controller of pytest-xdist. To be called before the first start."""
    _controllers.append(pid)


_supervisor = once.PerProcess(
    Supervisor,
    close=Supervisor.close,
    abandon=Supervisor.abandon,
    is_alive=Supervisor.is_alive,
    dismiss=Supervisor.dismiss,
)


def supervisor() -> Supervisor:
    """The supervisor of this process; started if none is running."""
    return _supervisor.get()


def close() -> None:
    """End the supervisor of this process, if there is one."""
    _supervisor.close()


def forget_lost() -> None:
    """End an init that was created but never received because of an exception."""
    if _supervisor.current is not None:
        _supervisor.current.forget_lost()


def refused() -> list[str]:
    """The parts of a namespace's view that this environment has refused so far, a line for each."""
    return list(map(str, _refused))


def _after_fork_in_parent() -> None:
    """Start the watchdog: a forked copy holds descriptors of all open namespaces and must be ended if it outlives pytest."""
    # If it has died it is not replaced here: this thread may be one that cannot start it.
    if _supervisor.current is None and are_open():
        supervisor()


forking.in_child(_controllers.clear)
forking.in_parent(_after_fork_in_parent)
