"""How programs and Python code enter a namespace with its processes, mounts and host name.

A thread enters a PID or mount namespace as a whole. So a namespace in which programs run has its own thread, which
stays inside and only starts them: `subprocess` costs there what it costs anywhere, and pytest
stays the parent. That thread cannot start threads (its children's PID namespace is foreign), so Python code runs
on other threads, with the network and mount namespaces only.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pytest_netns.errors import KernelError, LabClosedError, NetnsError
from pytest_netns.kernel.netlink import rtaddresses
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.programs import inits, supervision
from pytest_netns.kernel.programs.own_files import OwnFiles
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import forking, procfs, syscalls, threads

_END_TIMEOUT = 5.0  # seconds for the kernel to end a PID namespace's processes

T = TypeVar("T")


class View:
    """The processes of a namespace: its init, the thread that starts programs, the mounts for Python code.

    Attributes:
        init: its init process.
        files: the files that only its programs and Python code see.
    """

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._namespace = namespace
        self._supervisor = supervision.supervisor()
        self.init = self._supervisor.request_init(namespace)
        self._parts = inits.parts_of(self.init)
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()  # held while a job is added, so that none is added after the last
        self._closed = False
        self._discarded = False
        self._mounts = -1
        self.files = OwnFiles(self.init, self.run, mounts=self.has_mounts)
        self._mounts_lock = threading.Lock()
        self._addresses: NetlinkSocket | None = None
        self._thread = threading.Thread(target=self._work, name=f"{forking.PREFIX}spawn-{namespace.name}", daemon=True)
        # pydevd, the debugger of IDEs, starts threads from those it stops, which this one cannot do.
        vars(self._thread).update(pydev_do_not_trace=True, is_pydev_daemon_thread=True)
        try:
            threads.start(self._thread, f"run anything in namespace {namespace.name!r}")
            self.run(lambda: None)
        except BaseException:
            self.discard()
            raise

    @property
    def has_mounts(self) -> bool:
        """Whether the namespace has its own mounts, with /etc/hosts and the like."""
        return bool(self._parts & inits.MOUNT_VIEW)

    @property
    def has_pids(self) -> bool:
        """Whether programs have their own PID namespace, so that killing the init ends them all."""
        return bool(self._parts & inits.PIDS)

    def run(self, function: Callable[[], T]) -> T:
        """Run a function on the thread that starts programs; it must not start threads.

        Raises:
            LabClosedError: another thread has closed the lab.
            NetnsError: the namespace's init was killed.
        """
        job = _Job(function)
        with self._closing:
            if self._closed:
                raise LabClosedError(self._namespace.name)
            if self.init.has_ended():
                raise self.init_dead()
            self._jobs.put(job)
        try:
            return job.result()
        except OSError as error:
            if self._closed or self.init.is_ending():  # starting a program fails before the end of the init can be seen
                raise self.init_dead() from error
            raise

    def set_hostname(self, name: str) -> None:
        """Set the host name its programs see, if they have their own."""
        if self._parts & inits.HOST_NAME:
            self.run(lambda: syscalls.set_hostname(name))

    def addresses_changed(self) -> bool:
        """Whether addresses of the namespace were added or removed since the last call, by anyone."""
        return self._addresses is None or self._addresses.has_notifications()

    def enter_for_python(self) -> None:
        """Move the calling thread permanently into the network and mount namespaces, with pytest's own /proc."""
        if not self.has_mounts:
            self._namespace.enter()
            return
        syscalls.unshare(syscalls.CLONE_FS)
        directory = current_directory()
        with self._mounts_lock:
            if self._discarded:
                raise self.init_dead()
            if self._mounts < 0:
                self._enter(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
                self._mounts = self._make_mounts_for_python()
            else:
                self._enter(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
                syscalls.setns(self._mounts, syscalls.CLONE_NEWNS)
        os.chdir(directory)

    def _make_mounts_for_python(self) -> int:
        """A copy of the mounts without the namespace's /proc: this thread is in pytest's PID namespace."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        self.files.prepare_copy()
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def terminate(self) -> None:
        """Send SIGTERM to every process inside."""
        inits.kill(self.init.pidfd, signal.SIGTERM)

    def has_processes(self) -> bool:
        """Whether processes without a waiting parent run inside: daemons, orphans."""
        try:
            with open(f"/proc/{self.init.pid}/task/{self.init.pid}/children", encoding="utf-8") as children:
                return bool(children.read().strip())
        except FileNotFoundError:
            return not self.init.has_ended()

    def contains(self, pid: int) -> bool:
        """Whether a process is in the network namespace."""
        try:
            return procfs.network_namespace(pid) == self._namespace.inode
        except OSError:  # ended, or may not be inspected
            return False

    def close(self) -> None:
        """Kill every process inside, and wait until the thread has left; our own child processes still have to be reaped."""
        inits.kill(self.init.pidfd, signal.SIGKILL)
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        copy, self._mounts = self._mounts, -1
        if copy >= 0:
            os.close(copy)
        self.files.close()
        if self._addresses is not None:
            self._addresses.close()

    def discard(self) -> None:
        """Kill every process inside without waiting, and release everything; idempotent."""
        if not self._discarded:
            self._discarded = True
            try:
                self.close()
            finally:
                with self._mounts_lock:
                    os.close(self.init.pidfd)

    def abandon(self) -> None:
        """In a forked child, which has no thread to start programs: close what belongs to the parent."""
        if self._discarded:
            return
        self._closed = self._discarded = True
        os.close(self.init.pidfd)
        if self._mounts >= 0:
            os.close(self._mounts)
        self.files.close()
        if self._addresses is not None:
            self._addresses.close()

    def wait_ended(self, *, wait: bool) -> None:
        """Wait until no process is left inside; call it after `close`, once our own children have been reaped.

        Args:
            wait: False if the init was the only process, so that its end need not be awaited.

        Raises:
            NetnsError: some could not be killed within 5 s.
        """
        ended = not wait or inits.wait_ended(self.init.pidfd, _END_TIMEOUT)
        self.discard()
        if not ended:
            raise NetnsError(
                f"cannot end the processes of namespace {self._namespace.name!r}: its init (PID {self.init.pid}) "
                f"has not ended within {_END_TIMEOUT:g} s of SIGKILL; a process inside may be stuck in the kernel"
            )

    def _work(self) -> None:
        failure: OSError | None = None
        try:
            syscalls.unshare(syscalls.CLONE_FS)
            self._enter(syscalls.CLONE_NEWNET | self._parts)
            self._addresses = NetlinkSocket(self._namespace.name, groups=rtaddresses.ADDRESS_GROUPS)
        except OSError as error:
            failure = error
        while (job := self._jobs.get()) is not None:
            if failure is not None:
                code = failure.errno or errno.EIO
                job.fail(KernelError("enter namespaces of init", code, namespace=self._namespace.name))
            else:
                job.run()
            del job  # its result must not live until the next job

    def _enter(self, parts: int) -> None:
        """Enter the init's namespaces; the root directory stays that of pytest, which may run in a chroot."""
        root = os.open(f"/proc/{self.init.pid}/root", os.O_PATH | os.O_CLOEXEC)
        try:
            syscalls.setns(self.init.pidfd, parts)
            if parts & syscalls.CLONE_NEWNS and not os.path.samestat(os.stat("/"), os.fstat(root)):
                os.chdir(root)
                os.chroot(".")
        finally:
            os.close(root)

    def init_dead(self) -> NetnsError:
        """The error to raise if the init has ended: the lab is closed, or what has died."""
        if self._closed:
            return LabClosedError(self._namespace.name)
        what = f"the init process of namespace {self._namespace.name!r} (PID {self.init.pid}) has died"
        if not self._supervisor.is_alive():
            what += f", because the supervisor process (PID {self._supervisor.pid}) has"
        return NetnsError(
            f"cannot run anything in namespace {self._namespace.name!r}: {what}; "
            "the processes in it have ended; new labs work"
        )


def current_directory() -> str:
    """The current directory; the root directory if it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


class _Job(Generic[T]):
    """A function to run on another thread, and its outcome."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._done = threading.Lock()
        self._done.acquire()
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        self._done.release()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._done.release()

    def result(self) -> T:
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value
