"""Network namespaces without root: the process moves into its own user namespace and keeps its uid and gid.

User and group are mapped to themselves, so file permissions keep their meaning; if this machine allows it, other
users are mapped too, see users.py. Of the capabilities that a user namespace gives, those that the plugin and network
programs need are kept as ambient capabilities, so that programs have them too (capabilities(7), user_namespaces(7)). Root keeps all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from functools import partial

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces import moving, sysctls
from pytest_netns.kernel.system import diagnosis, privileges, syscalls
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.machine import users
from pytest_netns.machine.attempts import StepError, step, try_in_child

KEPT_CAPABILITIES = (
    syscalls.CAP_SYS_ADMIN,
    syscalls.CAP_NET_ADMIN,
    syscalls.CAP_NET_RAW,
    syscalls.CAP_NET_BIND_SERVICE,
    syscalls.CAP_SYS_CHROOT,  # needed to enter a mount namespace, setns(2)
)
# With other users: to give them files, to inspect and end their programs; not to override file permissions.
# Without CAP_SYS_PTRACE, programs could not follow links to descriptors of this process, which has more capabilities.
_KEPT_WITH_USERS = (syscalls.CAP_CHOWN, syscalls.CAP_KILL, syscalls.CAP_SYS_PTRACE)
# To start programs as other users. For this process only: mount(8) and others refuse to run for a user who can become root.
_TO_BECOME_USERS = (syscalls.CAP_SETGID, syscalls.CAP_SETUID)
FEATURE = "network namespaces without root"
_LIMIT = "user/max_user_namespaces"
_LIMITS = (errno.ENOSPC, errno.EUSERS)
_FREE_DEADLINE = 2.0  # seconds
UNSHARE = "unshare --user --map-current-user --keep-caps --net"


def become_rootless() -> None:
    """Enable this process to create networks: what ``netns_mode = rootless`` does, for programs without pytest.

    Does nothing if the process already has the privilege. Otherwise it moves into its own user and network namespaces,
    which cannot be undone: it stays the same user, but can no longer reach the machine's network. It must not have
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
    """Move this process into its own user and network namespaces; this cannot be undone.

    Tried in a child process first, so that a refusal leaves everything as it was.

    Args:
        with_workers: whether programs that this process starts are workers of pytest-xdist, which call `settle`.

    Raises:
        UnavailableError: with the cause and the command that fixes it.
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
    """Drop the ambient capabilities to become other users, so that programs do not inherit them."""
    for capability in _TO_BECOME_USERS:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_LOWER, capability)


def _move_when_free() -> None:
    """Call `move`, retrying at the limit: the kernel counts namespaces of ended processes until it has freed them."""
    deadline = Deadline(_FREE_DEADLINE, last=0.002)
    while True:
        try:
            return move()
        except StepError as error:
            full = error.step == "user namespace" and error.errno in _LIMITS
            if not full or diagnosis.read_sysctl(_LIMIT) == "0" or deadline.is_over():
                raise
        deadline.pause()


def explain(failure: StepError) -> UnavailableError:
    """Explain a failed step: the known cause, and the command that fixes it."""
    causes = {
        "user namespace": "creating a user namespace is refused",
        "uid_map": "a user namespace can be created but not used: writing its uid_map is refused",
    }
    cause, remedy = diagnosis.explain(failure.step, failure.errno, failure.message)
    remedy = failure.remedy or remedy
    return UnavailableError(FEATURE, f"{causes.get(failure.step, f'{failure.step} is refused')}: {cause}", remedy)


def move() -> None:
    """The steps of `enter`, without trying them first.

    Raises:
        StepError: the step that was refused; the process has then completed the earlier steps.
    """
    others = _move_to_user_namespace()
    sysctls.defaults.cache_clear()
    with step("network namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        moving.renew_home()
    with step("capset"):
        _keep_capabilities((*KEPT_CAPABILITIES, *_KEPT_WITH_USERS, *_TO_BECOME_USERS) if others else KEPT_CAPABILITIES)
    with step("loopback interface"):
        _loopback_up()


def _move_to_user_namespace() -> bool:
    """Move the process into its own user namespace with the same uid and gid; returns whether other users are mapped."""
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
        if uid_map.read():  # newuidmap has succeeded
            raise StepError("gid_map", errno.EPERM, "newgidmap has failed", "check /etc/subgid, or remove /etc/subuid")
    with step("setgroups"):
        _write("/proc/self/setgroups", "deny")
    with step("uid_map"):
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
    with step("gid_map"):
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    return False


def _mapper() -> users.Mapper | None:
    if os.geteuid() == 0:  # root is mapped to itself only
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
        return  # all users are available
    if try_in_child(partial(syscalls.unshare, syscalls.CLONE_NEWUSER)) is not None:
        return  # another probe reports that
    users.Mapper().cancel()
    if not _move_to_user_namespace():
        raise StepError(
            users.STEP, errno.EPERM, "newuidmap has refused; newuidmap and newgidmap have to be setuid root"
        )


def _keep_capabilities(kept: tuple[int, ...]) -> None:
    if os.geteuid() == 0:
        return  # root's programs get all of them anyway, and a process with fewer could not inspect them in /proc
    syscalls.set_capabilities(sum(1 << capability for capability in kept))
    for capability in kept:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, capability)


def _loopback_up() -> None:
    """Bring up lo, so that 127.0.0.1 works outside of any lab too, as on the real host."""
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
