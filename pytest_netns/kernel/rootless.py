"""Network namespaces without root: the process moves into a user namespace of its own, and stays who it is.

User and group are mapped to themselves, so file permissions mean what they did. Of the capabilities that a user
namespace gives, those that the plugin and network programs need are kept, as ambient ones, so that programs have them
too (capabilities(7), user_namespaces(7)).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel import netns, rtnetlink, syscalls
from pytest_netns.kernel.netlink import NetlinkSocket
from pytest_netns.kernel.privileges import thread_count

KEPT_CAPABILITIES = (
    syscalls.CAP_SYS_ADMIN,
    syscalls.CAP_NET_ADMIN,
    syscalls.CAP_NET_RAW,
    syscalls.CAP_NET_BIND_SERVICE,
    syscalls.CAP_SYS_CHROOT,  # needed to enter a mount namespace, setns(2)
)
FEATURE = "network namespaces without root"
UNSHARE = "unshare --user --map-current-user --keep-caps --net"


class StepError(Exception):
    """A step on the way failed.

    Attributes:
        step: one of the keys below, such as ``"uid_map"``.
        errno: the error number.
    """

    def __init__(self, step: str, number: int) -> None:
        self.step = step
        self.errno = number
        super().__init__(step, number)


def enter() -> None:
    """Move this process into user and network namespaces of its own; it cannot be undone.

    Tried in a child process first, so that a refusal leaves everything as it was.

    Raises:
        UnavailableError: with the cause and the command that mends it.
    """
    threads = thread_count()
    if threads > 1:
        raise UnavailableError(
            FEATURE,
            f"this process has {threads} threads, and unshare(CLONE_NEWUSER) takes a single one",
            "set --netns-mode=rootless, so that it is done before anything starts threads; "
            f"or start pytest with: {UNSHARE} {sys.executable} -m pytest",
        )
    failure = try_in_child(_move)
    if failure is not None:
        raise explain(failure)
    _move()


def try_in_child(attempt: Callable[[], None]) -> StepError | None:
    """Run an attempt in a forked child; returns the step that failed there."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = b"ok"
        try:
            attempt()
        except StepError as error:
            status = f"{error.step} {error.errno}".encode()
        except BaseException:
            status = f"attempt {errno.EIO}".encode()
        finally:
            os.write(send, status)
            os._exit(0)
    os.close(send)
    answer = os.read(receive, 256).decode()
    os.close(receive)
    os.waitpid(pid, 0)
    if answer == "ok":
        return None
    step, _, number = answer.rpartition(" ")
    return StepError(step or "attempt", int(number or errno.EIO))


def explain(failure: StepError) -> UnavailableError:
    """What a failed step means on the machines where it is known to fail, and the command that mends it."""
    code = errno.errorcode.get(failure.errno, str(failure.errno))
    causes = {
        "user namespace": "creating a user namespace is refused",
        "uid_map": "a user namespace can be created but not used: writing its uid_map is refused",
    }
    cause = causes.get(failure.step, f"{failure.step} is refused")
    return UnavailableError(FEATURE, f"{cause} ({os.strerror(failure.errno)}, {code})", _remedy(failure))


def _remedy(failure: StepError) -> str:
    if failure.errno == errno.ENOSPC:
        return "sudo sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000"
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if failure.step != "user namespace" and _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run pytest under sudo"
    if _sysctl("user/max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=10000"
    return (
        "run pytest as root; in a container, start it with "
        "--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt apparmor=unconfined"
    )


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _move() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _step("user namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET))
    _step("setgroups", lambda: _write("/proc/self/setgroups", "deny"))
    _step("uid_map", lambda: _write("/proc/self/uid_map", f"{uid} {uid} 1"))
    _step("gid_map", lambda: _write("/proc/self/gid_map", f"{gid} {gid} 1"))
    netns.ping_groups.cache_clear()
    _step("capset", _keep_capabilities)
    _step("loopback interface", _loopback_up)


def _keep_capabilities() -> None:
    syscalls.set_capabilities(sum(1 << capability for capability in KEPT_CAPABILITIES))
    for capability in KEPT_CAPABILITIES:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, capability)


def _loopback_up() -> None:
    """Tests that use 127.0.0.1 outside of any lab find it working, as on the real host."""
    netlink = NetlinkSocket("the process's own")
    try:
        netlink.request(rtnetlink.set_link(1, "lo", up=True))
    finally:
        netlink.close()


def _step(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise StepError(name, error.errno or errno.EIO) from error


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # a buffered file can swallow EPERM when it is closed
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
