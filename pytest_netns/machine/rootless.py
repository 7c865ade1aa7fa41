"""Network namespaces without root: the process moves into a user namespace of its own, and stays who it is.

User and group are mapped to themselves, so file permissions mean what they did; where this machine allows it, the other
users are there too, see users.py. Of the capabilities that a user namespace gives, those that the plugin and network
programs need are kept, as ambient ones, so that programs have them too (capabilities(7), user_namespaces(7)). Root keeps all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from functools import partial

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.system import diagnosis, privileges, syscalls
from pytest_netns.machine import users
from pytest_netns.machine.attempts import StepError, step, try_in_child

KEPT_CAPABILITIES = (
    syscalls.CAP_SYS_ADMIN,
    syscalls.CAP_NET_ADMIN,
    syscalls.CAP_NET_RAW,
    syscalls.CAP_NET_BIND_SERVICE,
    syscalls.CAP_SYS_CHROOT,  # needed to enter a mount namespace, setns(2)
)
# With other users: to give them files, to look at their programs and end them; not to override permissions of files.
# Without CAP_SYS_PTRACE, programs could not follow links to descriptors of this process, which can more than they.
_KEPT_WITH_USERS = (syscalls.CAP_CHOWN, syscalls.CAP_KILL, syscalls.CAP_SYS_PTRACE)
# To start their programs. For this process only: mount(8) and others refuse to run for a user who can become root.
_TO_BECOME_USERS = (syscalls.CAP_SETGID, syscalls.CAP_SETUID)
FEATURE = "network namespaces without root"
_LIMIT = "user/max_user_namespaces"
_LIMITS = (errno.ENOSPC, errno.EUSERS)
_FREE_DEADLINE = 2.0  # seconds
UNSHARE = "unshare --user --map-current-user --keep-caps --net"


def become_rootless() -> None:
    """Make this process able to make networks: what ``netns_mode = rootless`` does, for programs without pytest.

    Where the process has the privilege already nothing happens. Otherwise it moves into user and network namespaces of its
    own, which cannot be undone: it stays the same user, and the machine's own network is out of its reach. It must not have
    started threads yet::

        become_rootless()
        with Lab() as lab:
            ...

    Raises:
        UnavailableError: with the cause and the command that fixes it.
    """
    if not privileges.is_privileged():
        enter()


def enter(*, with_workers: bool = False) -> None:
    """Move this process into user and network namespaces of its own; it cannot be undone.

    Tried in a child process first, so that a refusal leaves everything as it was.

    Args:
        with_workers: whether programs that this process starts are workers of pytest-xdist, which call `settle`.

    Raises:
        UnavailableError: with the cause and the command that mends it.
    """
    threads = privileges.thread_count()
    if threads > 1:
        raise UnavailableError(
            FEATURE,
            f"this process has {threads} threads, and unshare(CLONE_NEWUSER) takes a single one",
            "set --netns-mode=rootless, so that it is done before anything starts threads; "
            f"or start pytest with: {UNSHARE} {sys.executable} -m pytest",
        )
    failure = try_in_child(_move_when_free)
    if failure is not None:
        raise explain(failure)
    try:
        _move_when_free()
    except StepError as error:
        raise explain(error) from error
    if not with_workers:
        settle()


def settle() -> None:
    """Keep from programs what only this process is to do: become other users."""
    for capability in _TO_BECOME_USERS:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_LOWER, capability)


def _move_when_free() -> None:
    """`move`, also right after another process did: the kernel counts namespaces until it has freed them, a moment later."""
    deadline = time.monotonic() + _FREE_DEADLINE
    while True:
        try:
            return move()
        except StepError as error:
            full = error.step == "user namespace" and error.errno in _LIMITS
            if not full or diagnosis.read_sysctl(_LIMIT) == "0" or time.monotonic() > deadline:
                raise
        threading.Event().wait(0.002)


def explain(failure: StepError) -> UnavailableError:
    """What a failed step means on the machines where it is known to fail, and the command that mends it."""
    causes = {
        "user namespace": "creating a user namespace is refused",
        "uid_map": "a user namespace can be created but not used: writing its uid_map is refused",
    }
    cause, remedy = diagnosis.explain(failure.step, failure.errno, failure.words)
    remedy = failure.remedy or remedy
    return UnavailableError(FEATURE, f"{causes.get(failure.step, f'{failure.step} is refused')}: {cause}", remedy)


def move() -> None:
    """The steps of `enter`, untried.

    Raises:
        StepError: the step that was refused; the process is then somewhere on the way.
    """
    others = _move_to_user_namespace()
    sysctls.defaults.cache_clear()
    with step("network namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNET)
    with step("capset"):
        _keep_capabilities((*KEPT_CAPABILITIES, *_KEPT_WITH_USERS, *_TO_BECOME_USERS) if others else KEPT_CAPABILITIES)
    with step("loopback interface"):
        _loopback_up()


def _move_to_user_namespace() -> bool:
    """The process in a user namespace of its own, as who it was; whether the other users are there."""
    uid, gid = os.geteuid(), os.getegid()
    mapper = _mapper()
    try:
        # Two calls rather than one, so that it is known which of the two is refused.
        with step("user namespace"):
            syscalls.unshare(syscalls.CLONE_NEWUSER)
    except BaseException:
        if mapper is not None:
            mapper.cancel()
        raise
    if mapper is not None and mapper.map():
        return True
    with contextlib.suppress(OSError), open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        if uid_map.read():  # half of it has worked
            raise StepError("gid_map", errno.EPERM, "newgidmap has failed", "check /etc/subgid, or remove /etc/subuid")
    with step("setgroups"):
        _write("/proc/self/setgroups", "deny")
    with step("uid_map"):
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
    with step("gid_map"):
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    return False


def _mapper() -> users.Mapper | None:
    if os.geteuid() == 0:  # it keeps what belongs to uid 0
        return None
    try:
        return users.Mapper()
    except StepError:
        return None


def try_users() -> None:
    """Move into a user namespace with the other users.

    Raises:
        StepError: what is missing for that.
    """
    if privileges.is_privileged():
        return  # they are there
    if try_in_child(partial(syscalls.unshare, syscalls.CLONE_NEWUSER)) is not None:
        return  # what another probe tells
    users.Mapper().cancel()
    if not _move_to_user_namespace():
        raise StepError(
            users.STEP, errno.EPERM, "newuidmap has refused; newuidmap and newgidmap have to be setuid root"
        )


def _keep_capabilities(kept: tuple[int, ...]) -> None:
    if os.geteuid() == 0:
        return  # root's programs get all of them anyway, and who has fewer may not look at them in /proc
    syscalls.set_capabilities(sum(1 << capability for capability in kept))
    for capability in kept:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, capability)


def _loopback_up() -> None:
    """Tests that use 127.0.0.1 outside of any lab find it working, as on the real host."""
    netlink = NetlinkSocket("the process's own")
    try:
        netlink.request(rtlinks.set_link(1, "lo", up=True))
    finally:
        netlink.close()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # a buffered file can swallow EPERM when it is closed
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
