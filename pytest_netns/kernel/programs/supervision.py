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

from pytest_netns.errors import NetnsError, UnavailableError
from pytest_netns.kernel.programs import mounts, watchdog
from pytest_netns.kernel.programs import supervisor as program
from pytest_netns.kernel.programs.inits import Init, kill, pid_of, wait_ended
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace, are_open, home
from pytest_netns.kernel.system import interrupts, sockets

_START_TIMEOUT = 20.0  # seconds; it takes about 20 ms, a loaded machine may take long
_END_TIMEOUT = 5.0
_TELL_TRIES = 3

_lock = threading.RLock()
_current: Supervisor | None = None
_controllers: list[int] = []  # PIDs of processes without which this one is ended
_refused: dict[str, None] = {}  # what the environment refused any init so far, in order


class Supervisor:
    """The running supervisor and its watchdog."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one request after the other
        self._asked = 0  # the number of the last request
        self._taken = 0  # the number of the last init that was taken
        self._watchdog: tuple[int, int] | None = None
        with contextlib.ExitStack() as undo:
            self._words = os.memfd_create("netns-supervisor", os.MFD_CLOEXEC)
            undo.callback(os.close, self._words)
            with home():  # unix sockets too belong to a namespace, and would keep a lab's alive
                self._control, control = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._control.close)
                self._watch, watch = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._watch.close)
                # It may run all the same: subprocess can fail after that, while it waits to hear how the start went.
                undo.callback(self._say_replaced)
                self._control.settimeout(_START_TIMEOUT)
                self._watch.settimeout(_START_TIMEOUT)
                with control, watch, contextlib.closing(destruction.hub().another_socket()) as netlink:
                    passed = (control.fileno(), watch.fileno(), netlink.fileno())
                    self._starter = _start_program(*passed, self._words)
            undo.pop_all()

    @property
    def pid(self) -> int:
        """The watchdog's PID; waits until it runs."""
        return self._introduced()[0]

    def wait_ready(self) -> None:
        """Wait until it can make inits; one that pytest has asked for and not taken is killed.

        Raises:
            NetnsError: it has died.
        """
        with self._lock:
            self._ask("", [])

    @interrupts.uninterrupted
    def request_init(self, namespace: NetworkNamespace) -> Init:
        """Have an init forked for a namespace.

        Raises:
            NetnsError: the supervisor has died, or the init could not be made.
        """
        with self._lock:
            first, lines, descriptors = self._ask(namespace.name, [namespace.fd])
            if first != "ok" or not descriptors:
                _close_all(descriptors)
                if first != "error":
                    raise self._dead()
                raise NetnsError(f"cannot start the init process of namespace {namespace.name!r}: {' '.join(lines)}")
            try:
                init = Init(pid_of(descriptors[0]), descriptors[0], tuple(lines))
            except BaseException:
                kill(descriptors[0], signal.SIGKILL)
                os.close(descriptors[0])
                raise
            self._taken = self._asked
            _refused.update(dict.fromkeys(init.lacks))
            return init

    def forget_lost(self) -> None:
        """End an init whose answer an exception has kept from being read; nothing where there is none."""
        if self._taken != self._asked:
            with contextlib.suppress(NetnsError):
                self.wait_ready()

    def _ask(self, name: str, descriptors: list[int]) -> tuple[str, list[str], list[int]]:
        """Send a request and read its answer: the first word, the further lines and the descriptors; the lock is held."""
        self._introduced()
        self._asked += 1
        number = str(self._asked)
        try:
            socket.send_fds(self._control, ["\n".join([number, str(self._taken), name]).encode()], descriptors)
            while True:
                flags = socket.MSG_CMSG_CLOEXEC
                answer, received, _, _ = socket.recv_fds(self._control, program.MAX_MESSAGE, 1, flags)
                own, *lines = answer.decode().split("\n")
                if not own:
                    raise self._dead()
                if own == number:
                    break
                _close_all(received)  # of a request that an exception has kept from reading its answer
        except OSError as error:
            self._kill()  # an init may have been made of which nobody will ever know
            raise self._dead() from error
        if not name:
            self._taken = self._asked
        return lines[0], lines[1:], received

    @interrupts.uninterrupted
    def _introduced(self) -> tuple[int, int]:
        """The watchdog's PID and a pidfd of it, which it sends first of all."""
        if self._watchdog is None:
            try:
                pid, pidfds, _, _ = socket.recv_fds(self._watch, program.MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                raise self._dead() from error
            if not pid or not pidfds:
                raise self._dead()
            self._watchdog = int(pid), pidfds[0]
            self._starter.wait()  # it has ended once there is a watchdog
        return self._watchdog

    def is_alive(self) -> bool:
        """Whether it still runs; one that is just starting does."""
        if self._control.fileno() < 0:  # another thread has dismissed it
            return False
        poll = select.poll()
        poll.register(self._control, 0)
        poll.register(self._watch, 0)
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
        with contextlib.suppress(NetnsError):
            self._introduced()
        self._control.close()
        self._watch.close()
        if self._watchdog is None:  # it has never got that far
            self._starter.kill()
            self._starter.wait()
        else:
            (pid, pidfd), self._watchdog = self._watchdog, None
            if not wait_ended(pidfd, _END_TIMEOUT):
                kill(pidfd, signal.SIGKILL)
                wait_ended(pidfd, _END_TIMEOUT)
            os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(
                    pid, os.WNOHANG
                )  # where pytest is the first process of a container, orphans are its children
        words, self._words = self._words, -1
        os.close(words)

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self._control.close()
        self._watch.close()
        os.close(self._words)
        if self._watchdog is not None:
            os.close(self._watchdog[1])
        self._starter.returncode = 0

    def _kill(self) -> None:
        if self._watchdog is not None:
            kill(self._watchdog[1], signal.SIGKILL)

    def _dead(self) -> NetnsError:
        """What to raise where it has died: how, and what it has written."""
        who = "" if self._watchdog is None else f" (PID {self._watchdog[0]})"
        how = "has died"
        if self._control.fileno() < 0:
            how = "has been ended"
        elif self.is_alive():
            how = f"does not answer within {_START_TIMEOUT:g} s"
        elif self._watchdog is None:  # it has closed its end, so it is about to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = f"has ended at its start with exit status {self._starter.wait(_END_TIMEOUT)}"
        written = ""
        if self._words >= 0:
            written = os.pread(self._words, program.MAX_MESSAGE, 0).decode(errors="replace").strip()
        return NetnsError(
            f"cannot start processes: the supervisor process{who} {how}{f': {written}' if written else ''}; "
            "what ran under it has ended with it, labs made from now on work"
        )


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _start_program(control: int, watch: int, netlink: int, words: int) -> subprocess.Popen[bytes]:
    """Start supervisor.py with a pidfd of every process whose end must be its own; what it writes goes to ``words``."""
    with contextlib.ExitStack() as stack:
        pidfds = []
        for pid in (os.getpid(), *_controllers):
            pidfds.append(os.pidfd_open(pid))
            stack.callback(os.close, pidfds[-1])
        passed = [pidfds[0], control, watch, netlink, *pidfds[1:]]
        return subprocess.Popen(
            # Not by its own name: debuggers add themselves to whatever is called Python.
            [
                "/proc/self/exe",
                "-I",
                "-S",
                program.__file__,
                mounts.descriptors_directory(os.getpid()),
                *map(str, (os.getpid(), *passed)),
            ],
            executable=sys.executable,
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            cwd="/",
            # Where the system's loader finds Python's own libraries; nothing else that is meant for pytest's Python.
            env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
            start_new_session=True,
        )


def end_with(pid: int) -> None:
    """This process must not go on without another one, the controller of pytest-xdist; to be told before the first start."""
    _controllers.append(pid)


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


def forget_lost() -> None:
    """End an init that was made and that nobody has got: an exception came in between."""
    if _current is not None:
        _current.forget_lost()


def refused() -> list[str]:
    """What programs in namespaces had to do without so far, because the environment refuses it: a line for each part."""
    return list(_refused)


def _after_fork_in_parent() -> None:
    """A forked copy holds the descriptors of all open namespaces: if it outlives pytest, the watchdog has to end it."""
    # Not replaced here where it has died: this thread may be one that cannot start it.
    if _current is None and are_open():
        supervisor()


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock = threading.RLock()
    _controllers.clear()
    if _current is not None:
        _current.abandon()
        _current = None


os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
