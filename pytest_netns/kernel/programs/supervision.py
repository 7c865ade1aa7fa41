"""pytest's side of the supervisor: started at the first need, once per process, and replaced if it dies."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

from pytest_netns.errors import NetnsError, UnavailableError
from pytest_netns.kernel.programs import supervisor as program
from pytest_netns.kernel.programs import watchdog
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace, are_open, home
from pytest_netns.kernel.system import syscalls

_START_TIMEOUT = 20.0  # seconds; it takes about 20 ms, a loaded machine may take long
_END_TIMEOUT = 5.0
_TELL_TRIES = 3
_PF_EXITING = 0x4  # include/linux/sched.h; the flags are in proc_pid_stat(5)

_lock = threading.RLock()
_current: Supervisor | None = None
_refused: dict[str, None] = {}  # what the environment refused any init so far, in order


class Init(NamedTuple):
    """A namespace's init, seen from pytest.

    Attributes:
        pid: its PID as seen from here.
        pidfd: a descriptor of it.
        lacks: what this environment refused it, a line for each part.
    """

    pid: int
    pidfd: int
    lacks: tuple[str, ...]

    def has_ended(self) -> bool:
        """Whether it is dead, and with it everything in its PID namespace."""
        return wait_ended(self.pidfd, 0)

    def is_ending(self) -> bool:
        """Whether it has been killed; it has ended only once all that was in its PID namespace has been reaped."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as stat:
                flags = int(stat.read().rpartition(")")[2].split()[6])
        except (FileNotFoundError, ProcessLookupError):
            return True
        return bool(flags & _PF_EXITING) or self.has_ended()


class Supervisor:
    """The running supervisor and its watchdog."""

    def __init__(self) -> None:
        self._request = threading.Lock()
        self._lacks: tuple[str, ...] | None = None
        with home():  # unix sockets too belong to a namespace, and would keep a lab's alive
            self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._watch, watch = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self._control.settimeout(_START_TIMEOUT)
                with control, watch, contextlib.closing(destruction.hub().another_socket()) as netlink:
                    self._process = _start_program(control.fileno(), watch.fileno(), netlink.fileno())
            except BaseException:
                # It may run all the same: subprocess can fail after that, while it waits to hear how the start went.
                self._say_replaced()
                self._control.close()
                self._watch.close()
                raise
        self.pid = self._process.pid

    @property
    def lacks(self) -> tuple[str, ...]:
        """What this environment refused the supervisor; waits until it is ready."""
        with self._request:
            if self._lacks is None:
                try:
                    first, *lacks = self._control.recv(program.MAX_MESSAGE).decode().splitlines() or [""]
                except OSError as error:
                    raise self._dead() from error
                if first != "ready":
                    raise self._dead()
                self._lacks = tuple(lacks)
            return self._lacks

    def request_init(self, namespace: NetworkNamespace) -> Init:
        """Have an init forked for a namespace.

        Raises:
            NetnsError: the supervisor has died, or the init could not be made.
        """
        own_lacks = self.lacks
        with self._request:
            try:
                socket.send_fds(self._control, [namespace.name.encode()], [namespace.fd])
                flags = socket.MSG_CMSG_CLOEXEC
                answer, descriptors, _, _ = socket.recv_fds(self._control, program.MAX_MESSAGE, 1, flags)
            except OSError as error:
                self._process.kill()  # an init may have been made of which nobody will ever know
                raise self._dead() from error
        first, *lines = answer.decode().splitlines() or [""]
        if first == "ok" and descriptors:
            try:
                init = Init(_pid_of(descriptors[0]), descriptors[0], (*own_lacks, *lines))
            except BaseException:
                kill(descriptors[0], signal.SIGKILL)
                os.close(descriptors[0])
                raise
            _refused.update(dict.fromkeys(init.lacks))
            return init
        for descriptor in descriptors:
            os.close(descriptor)
        if first == "error":
            raise NetnsError(f"cannot start the init process of namespace {namespace.name!r}: {' '.join(lines)}")
        raise self._dead()

    def is_alive(self) -> bool:
        """Whether it still runs; one that is just starting does."""
        if self._process.poll() is not None:
            return False
        poll = select.poll()
        poll.register(self._control, 0)
        return not poll.poll(0)

    def dismiss(self) -> None:
        """End it where it has died in part: what is in pytest's namespaces is the next one's to watch, and must live on."""
        self._say_replaced()
        self.close()

    def _say_replaced(self) -> None:
        for _ in range(_TELL_TRIES):  # the kernel may be out of memory for a moment
            with contextlib.suppress(OSError):
                self._watch.send(watchdog.REPLACED)
                break

    def close(self) -> None:
        """End it, and with it everything it supervises and all that is in pytest's namespaces; waits until it has."""
        self._control.close()
        self._watch.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self._control.close()
        self._watch.close()
        self._process.returncode = 0

    def _dead(self) -> NetnsError:
        status = self._process.poll()
        how = f"exit status {status}" if status is not None else "killed or not answering"
        return NetnsError(
            f"cannot start processes: the supervisor process (PID {self.pid}) has died: {how}; "
            "what ran under it has ended with it, labs made from now on work"
        )


def _start_program(control: int, watch: int, netlink: int) -> subprocess.Popen[bytes]:
    """Start supervisor.py with a pidfd of every process whose end must be its own."""
    owners = [os.getpid()]
    if "PYTEST_XDIST_WORKER" in os.environ:  # left alone by its controller, a worker may go on for many seconds
        owners.append(os.getppid())
    with contextlib.ExitStack() as stack:
        pidfds = []
        for pid in owners:
            pidfds.append(os.pidfd_open(pid))
            stack.callback(os.close, pidfds[-1])
        passed = [pidfds[0], control, watch, netlink, *pidfds[1:]]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", program.__file__, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )


def supervisor() -> Supervisor:
    """The supervisor of this process; started when there is none that runs."""
    global _current
    with _lock:
        if _current is not None and not _current.is_alive():
            _current.dismiss()
            _current = None
        if _current is None:
            if not sys.executable:
                raise UnavailableError("processes in namespaces", "Python does not know its own executable")
            _current = Supervisor()
            atexit.register(close)
        return _current


def close() -> None:
    """End the supervisor of this process, if there is one."""
    global _current
    with _lock:
        if _current is not None:
            _current.close()
            _current = None
            atexit.unregister(close)


def refused() -> list[str]:
    """What programs in namespaces had to do without so far, because the environment refuses it: a line for each part."""
    return list(_refused)


def wait_ended(pidfd: int, timeout: float) -> bool:
    """Whether the process behind a pidfd ends within so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(timeout, 0) * 1000))


def kill(pidfd: int, number: int) -> None:
    """Signal the process behind a pidfd; nothing where it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("Pid:"))


def _after_fork_in_parent() -> None:
    """A forked copy holds the descriptors of all open namespaces: if it outlives pytest, the watchdog has to end it."""
    # Not replaced here where it has died: this thread may be one that cannot start it.
    if _current is None and are_open():
        supervisor()


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _current.abandon()
        _current = None


os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

MOUNT_VIEW, HOST_NAME, PIDS = syscalls.CLONE_NEWNS, syscalls.CLONE_NEWUTS, syscalls.CLONE_NEWPID


def parts_of(init: Init) -> int:
    """Which namespaces of an init there are to enter, as CLONE_ flags."""
    parts = 0
    for prefix, flag in (("mount namespace", MOUNT_VIEW), ("host name", HOST_NAME), ("PID namespace", PIDS)):
        if not any(line.startswith(prefix) for line in init.lacks):
            parts |= flag
    return parts
