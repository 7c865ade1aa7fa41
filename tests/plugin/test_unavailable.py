"""If something is missing: which tests are affected, what is reported, and how often."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_netns
from tests.support.environments import (
    IS_ROOT,
    MASK_PROC,
    ROOT,
    as_root,
    environment,
    filtered,
    give,
    ordinary_user,
    run_pytest,
    shell,
)

SUITE = """
import os

import pytest


def test_plain(): pass
@pytest.mark.parametrize("number", range(3))
def test_pair(netns_pair, number): netns_pair["red"].run("ping -c1 -W5 192.168.15.2")
def test_nat(netns_nat): netns_nat["red"].run("ping -c1 -W5 192.168.1.3")
def test_processes(netns):
    seen = netns.host.run(["ls", "/proc"]).stdout.split()
    assert len([name for name in seen if name.isdigit()]) <= 3
"""
NOTHING = [*ordinary_user(), *filtered("unshare:EPERM", "clone3:ENOSYS")]
IN_OWN_MOUNTS = [*as_root(), "unshare", "--mount"]
NO_NFT = [*IN_OWN_MOUNTS, *shell("mount -t tmpfs tmpfs /usr/lib/python3/dist-packages")]
MASKED = [
    *IN_OWN_MOUNTS,
    *shell(MASK_PROC),
    *("unshare", "--user", "--map-root-user", "--mount", "--net"),
]


@pytest.fixture
def suite() -> Iterator[Path]:
    """A directory that any user can read, with the suite in it."""
    directory = give(Path(tempfile.mkdtemp(prefix="netns-unavailable.")))
    (directory / "test_suite.py").write_text(SUITE)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_without_namespaces_only_their_tests_are_skipped(suite: Path, workers: tuple[str, ...]) -> None:
    """Each skip has the cause, cause and remedy are shown once in full, and other tests run."""
    outcome = run_pytest(NOTHING, suite, "--netns-mode=rootless", *workers)
    assert outcome.counts == {"passed": 1, "skipped": 5}, outcome.output
    assert outcome.output.count("remedy: ") == 1, outcome.output
    assert "a seccomp filter refuses it" in outcome.output
    skips = [line for line in outcome.output.splitlines() if line.startswith("SKIPPED")]
    assert skips
    assert all(
        "cannot use network namespaces without root: creating a user namespace is refused" in line for line in skips
    )


def test_the_header_says_it_in_one_line(suite: Path) -> None:
    """Before the first test the header shows why some will not run."""
    outcome = run_pytest(NOTHING, suite, "--netns-mode=rootless")
    assert outcome.output.count("netns: not available: cannot use network namespaces without root") == 1


@pytest.mark.parametrize(
    ("options", "env"),
    [(["--netns-unavailable=fail"], {}), ([], {"CI": "true"}), (["-o", "netns_unavailable=fail"], {})],
    ids=["option", "CI", "ini"],
)
def test_it_can_be_an_error(suite: Path, options: list[str], env: dict[str, str]) -> None:
    """On request, and by default in CI, a suite does not pass by skipping."""
    outcome = run_pytest(NOTHING, suite, "--netns-mode=rootless", *options, env={**environment(), **env})
    assert outcome.status == 1
    assert outcome.counts == {"passed": 1, "error": 5}, outcome.output


def test_skipping_can_be_asked_for_in_ci(suite: Path) -> None:
    """The option overrides the variable CI."""
    options = ("--netns-mode=rootless", "--netns-unavailable=skip")
    outcome = run_pytest(NOTHING, suite, *options, env=environment(CI="true"))
    assert outcome.counts == {"passed": 1, "skipped": 5}, outcome.output


@pytest.mark.parametrize(
    ("env", "counts"), [({}, {"passed": 5, "skipped": 1}), ({"CI": "1"}, {"passed": 5, "error": 1})]
)
def test_without_nft_only_nat_is_affected(suite: Path, env: dict[str, str], counts: dict[str, int]) -> None:
    """A test that needs NAT is skipped, or fails in CI, with the package to install; all others run."""
    outcome = run_pytest(NO_NFT, suite, env={**environment(), **env})
    assert outcome.counts == counts, outcome.output
    assert "remedy: sudo apt-get install python3-nftables" in outcome.output
    assert "netns: mode root; NAT is not available: sudo apt-get install python3-nftables" in outcome.output


def test_a_kernel_without_netfilter_costs_nat_only(suite: Path) -> None:
    """libnftables would end the whole process there; the test that needs it is skipped, with what is missing."""
    outcome = run_pytest([*as_root(), *filtered("socket/2=12:EPROTONOSUPPORT")], suite)
    assert outcome.counts == {"passed": 5, "skipped": 1}, outcome.output
    assert "cannot use NAT and nft rulesets: this kernel lacks it, or its module is not loaded" in outcome.output


@pytest.mark.parametrize(
    ("prefix", "remedy"),
    [
        ([*as_root(), *filtered("setns:EPERM")], "start the container with docker run --cap-add SYS_ADMIN"),
        (["unshare", "--user", "--map-root-user"], "start it with: unshare --user --map-root-user --net ..."),
    ],
    ids=["setns refused", "unshare without --net"],
)
def test_a_thread_that_could_not_return_does_not_enter(suite: Path, prefix: list[str], remedy: str) -> None:
    """If a thread can enter a new namespace, but cannot return, the tests are skipped and pytest survives."""
    outcome = run_pytest(prefix, suite)
    assert outcome.counts == {"passed": 1, "skipped": 5}, outcome.output
    assert f"remedy: {remedy}" in outcome.output


def test_without_mounts_of_proc_only_the_process_view_is_affected(suite: Path) -> None:
    """In a container that masks /proc everything works, but programs see the processes outside; the header says so."""
    outcome = run_pytest(MASKED, suite)
    assert outcome.counts == {"passed": 5, "failed": 1}, outcome.output
    assert "collected 6 items\nnetns: not available: own /proc: mount /proc: Operation not permitted" in outcome.output
    assert "FAILED test_suite.py::test_processes" in outcome.output


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_without_any_mounts_networks_work_all_the_same(suite: Path, workers: tuple[str, ...]) -> None:
    """AppArmor's usual refusal costs the views of /proc, /sys and /etc/hosts, but no packet; the header says so."""
    # For an ordinary user, who is root inside, the directory of that name in /tmp may belong to another user.
    env = environment(PYTEST_DEBUG_TEMPROOT=str(suite))
    outcome = run_pytest([*as_root(), *filtered("mount:EACCES")], suite, *workers, env=env)
    assert outcome.counts == {"passed": 5, "failed": 1}, outcome.output
    before_tests = outcome.output.partition("test_suite.py")[0]
    assert (
        "\nnetns: not available: mount namespace: mount /: Permission denied; see pytest-netns doctor" in before_tests
    )


READ_ONLY = [*IN_OWN_MOUNTS, *shell("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")]
LOCKED = [*READ_ONLY, "unshare", "--user", "--map-root-user", "--mount", "--net"]


@pytest.mark.skipif(not IS_ROOT, reason="needs root: a fresh /proc may be mounted by it only")
def test_root_in_a_container_does_not_need_a_writable_proc(suite: Path) -> None:
    """Containers mount /proc/sys read-only; forwarding, and NAT with it, still works."""
    outcome = run_pytest(READ_ONLY, suite)
    assert outcome.counts == {"passed": 6}, outcome.output


ROUTERS = """
import pytest
from pytest_netns import CommandError, KernelError


@pytest.fixture
def routed(netns):
    red, router, blue = (netns.add_namespace(name) for name in ("red", "router", "blue"))
    netns.add_veth(red, router, addresses=(["10.1.0.1/24", "fd00:1::1/64"], ["10.1.0.254/24", "fd00:1::254/64"]))
    router.enable_forwarding()
    # This link is added only after forwarding was enabled.
    netns.add_veth(router, blue, addresses=(["10.2.0.254/24", "fd00:2::254/64"], ["10.2.0.1/24", "fd00:2::1/64"]),
                   names=("late", "veth-blue"))
    for namespace, number in ((red, 1), (blue, 2)):
        namespace.add_default_route(via=f"10.{number}.0.254")
        namespace.add_default_route(via=f"fd00:{number}::254")
    return red, router, blue


def test_forwarded(routed):
    red, router, blue = routed
    red.run("ping -c1 -W5 10.2.0.1")
    blue.run("ping -c1 -W5 10.1.0.1")
    assert router.sysctl("net.ipv4.ip_forward") == "1"
    assert router.sysctl("net.ipv4.conf.late.forwarding") == "1"
    router.sysctl("net.ipv4.ip_forward", 0)
    with pytest.raises(CommandError, match="100% packet loss"):
        red.run("ping -c1 -W0.5 10.2.0.1")


def test_reverse_path(routed):
    router = routed[1]
    for value in ("1", "0"):  # 0, whatever the host's is, is what namespaces start with
        assert router.sysctl("net.ipv4.conf.all.rp_filter", value) == value
        assert {router.sysctl(f"net.ipv4.conf.{name}.rp_filter") for name in ("late", "veth-router")} == {value}


def test_port_forwards(netns_nat):
    host, outside, red, blue = (netns_nat[name] for name in ("host", "outside", "red", "blue"))
    host.forward_port(8080, to="blue:80")
    with blue.create_server(("192.168.15.2", 80)) as server:
        for namespace, address in ((outside, "192.168.1.2"), (red, "192.168.1.2"), (host, "127.0.0.1")):
            with namespace.create_connection((address, 8080), 5):
                server.accept()[0].close()


def test_other_settings(netns):
    with pytest.raises(KernelError, match="cannot set sysctl net.ipv4.tcp_fin_timeout to 3 in namespace .host.: Read-only file system"):
        netns.host.sysctl("net.ipv4.tcp_fin_timeout", 3)


def test_ipv6(routed):
    routed[0].run("ping -c1 -W0.5 fd00:2::1")
"""


def test_without_writable_settings_ipv4_is_forwarded_all_the_same(suite: Path) -> None:
    """Existing and later interfaces, NAT and port forwards: netlink sets what /proc/sys does not.

    The kernel cannot do so for IPv6: that test fails, and the end of the run shows the cause and the remedy.
    """
    (suite / "test_suite.py").write_text(ROUTERS)
    outcome = run_pytest(LOCKED, suite)
    assert outcome.counts == {"passed": 4, "failed": 1}, outcome.output
    assert "FAILED test_suite.py::test_ipv6" in outcome.output
    assert (
        "namespaces had to do without: forwarding of IPv6: /proc/sys is mounted read-only "
        "(Read-only file system, EROFS); remedy: sudo mount -o remount,rw /proc/sys"
    ) in outcome.output


def test_a_limit_that_is_reached_is_named(suite: Path) -> None:
    """One cause and its remedy are shown, not an error in every test."""
    none_left = [
        *as_root(),
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        *shell("echo 0 >/proc/sys/user/max_net_namespaces"),
    ]
    outcome = run_pytest(none_left, suite)
    assert outcome.counts == {"passed": 1, "skipped": 5}, outcome.output
    assert outcome.output.count("remedy: sudo sysctl -w user.max_net_namespaces=") == 1


ELSEWHERE = """
import os
import sys

NOT_ON_MACOS = {
    "os": "MFD_CLOEXEC O_PATH memfd_create pidfd_open",
    "select": "epoll",
    "signal": "SIGRTMIN pidfd_send_signal",
    "socket": "AF_NETLINK AF_PACKET MSG_CMSG_CLOEXEC NETLINK_ROUTE PACKET_OUTGOING SOCK_CLOEXEC SO_PEERCRED SO_PRIORITY",
    "time": "CLOCK_BOOTTIME",
}
NOT_ON_WINDOWS = {
    "os": "O_CLOEXEC O_DIRECTORY WEXITED WNOHANG WNOWAIT chown chroot fork getegid geteuid getgrouplist getuid pread"
    " register_at_fork setpriority setsid sysconf uname",
    "select": "POLLIN POLLOUT poll",
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPROF SIGSTOP SIGUSR1 SIGUSR2 SIGVTALRM ITIMER_REAL"
    " getitimer pthread_kill pthread_sigmask setitimer sigwait",
    "socket": "AF_UNIX CMSG_SPACE MSG_DONTWAIT recv_fds send_fds",
    "time": "CLOCK_MONOTONIC clock_gettime",
}

if os.environ.get("ELSEWHERE") and "pytest" in sys.orig_argv:
    import pytest  # and the standard library with it, for the real platform

    import asyncio, ctypes, fcntl, multiprocessing, select, signal, socket, subprocess, tempfile, time

    sys.platform = os.environ["ELSEWHERE"]
    ctypes.CDLL = None  # macOS has no setns in its C library, Windows no C library by this name
    missing = [NOT_ON_MACOS, NOT_ON_WINDOWS] if sys.platform == "win32" else [NOT_ON_MACOS]
    for names in missing:
        for module in names:
            for name in names[module].split():
                delattr(sys.modules[module], name)
    if sys.platform == "win32":
        sys.modules.update(dict.fromkeys(["fcntl", "resource", "pwd", "grp", "termios"]))

    def without_proc(function):
        def replaced(path, *arguments, **options):
            if str(path).startswith("/proc"):
                raise FileNotFoundError(2, "No such file or directory", path)
            return function(path, *arguments, **options)
        return replaced

    for name in ("open", "readlink", "listdir", "stat"):
        setattr(os, name, without_proc(getattr(os, name)))
"""
REPORT_MODULES = """
import sys

def pytest_sessionfinish():
    ours = sorted(name for name in sys.modules if name.startswith("pytest_netns"))
    print("OURS:", *ours)
"""


EVERY_RUN = {
    f"pytest_netns.{name}"
    for name in (
        "kernel",
        "kernel.nft",
        "kernel.nft.bindings",
        "kernel.system",
        "kernel.system.privileges",
        "plugin",
        "plugin.fixtures",
        "plugin.inside",
        "plugin.marker",
        "plugin.options",
        "plugin.rewriting",
        "plugin.run",
        "plugin.state",
    )
} | {"pytest_netns"}
PORTABLE = EVERY_RUN | {
    f"pytest_netns.{name}"
    for name in (
        "errors",
        "errors.showing",
        "lab",
        "lab.factory",
        "plugin.failing",
    )
}


@pytest.mark.parametrize("elsewhere", ["darwin", "win32"])
def test_on_other_systems_the_plugin_registers_its_marker_and_skips(suite: Path, elsewhere: str) -> None:
    """A suite for several systems is collected everywhere, with strict markers; its Linux tests are skipped."""
    (suite / "sitecustomize.py").write_text(ELSEWHERE)
    (suite / "conftest.py").write_text(REPORT_MODULES)
    (suite / "test_suite.py").write_text(
        SUITE + "\n\n@pytest.mark.netns('lan')\ndef test_marked(): raise AssertionError\n"
    )
    env = environment(ELSEWHERE=elsewhere, PYTHONPATH=f"{suite}{os.pathsep}{ROOT}", PYTEST_ADDOPTS="-p netns")
    outcome = run_pytest([], suite, "--strict-markers", "-s", env=env)
    assert outcome.counts == {"passed": 1, "skipped": 6}, outcome.output
    assert "netns: not available: it needs Linux" in outcome.output
    assert f"this is {elsewhere}" in outcome.output
    loaded = set(next(line for line in outcome.output.splitlines() if "OURS:" in line).split("OURS:")[1].split())
    assert loaded <= PORTABLE


@pytest.mark.parametrize("elsewhere", ["darwin", "win32"])
def test_on_other_systems_a_suite_may_name_all_there_is(suite: Path, elsewhere: str) -> None:
    """Importing classes, as annotations need them, imports nothing that the other system lacks."""
    (suite / "sitecustomize.py").write_text(ELSEWHERE)
    (suite / "test_suite.py").write_text(
        f"from pytest_netns import {', '.join(pytest_netns.__all__)}\n"
        "def test_annotated(netns: Lab) -> None: raise AssertionError\n"
        "def test_plain(): pass\n"
    )
    env = environment(ELSEWHERE=elsewhere, PYTHONPATH=f"{suite}{os.pathsep}{ROOT}", PYTEST_ADDOPTS="-p netns")
    outcome = run_pytest([], suite, "-s", env=env)
    assert outcome.counts == {"passed": 1, "skipped": 1}, outcome.output


def test_a_suite_without_netns_does_not_pay(suite: Path) -> None:
    """With the plugin installed, every run of pytest loads only what it needs, and nothing that talks to the kernel."""
    (suite / "conftest.py").write_text(REPORT_MODULES)
    (suite / "test_suite.py").write_text("def test_plain(): pass\n")
    assert loaded_modules(suite) == EVERY_RUN


def test_a_test_that_passes_does_not_pay_for_those_that_fail(suite: Path) -> None:
    """Modules that decode packets and tables for a report are not loaded, nor those that read topologies if there is none."""
    (suite / "conftest.py").write_text(REPORT_MODULES)
    (suite / "test_suite.py").write_text("import pytest\n@pytest.mark.netns\ndef test_marked(): pass\n")
    loaded = loaded_modules(suite)
    assert "pytest_netns.explaining.snapshot" in loaded
    unneeded = ("packets.dissect", "explaining.state", "explaining.networks", "explaining.changes", "topology")
    assert loaded.isdisjoint(f"pytest_netns.{name}" for name in unneeded)


def loaded_modules(suite: Path) -> set[str]:
    """The plugin's modules that a run had loaded at its end, with REPORT_MODULES as conftest."""
    outcome = run_pytest([], suite, "-s")
    assert outcome.counts == {"passed": 1}, outcome.output
    return set(next(line for line in outcome.output.splitlines() if "OURS:" in line).split("OURS:")[1].split())


def test_a_test_may_expect_it(suite: Path) -> None:
    """An UnavailableError that a test catches is not reported."""
    (suite / "test_suite.py").write_text(
        "import pytest\n"
        "from pytest_netns import UnavailableError\n"
        "def test_expected(netns):\n"
        "    with pytest.raises(UnavailableError):\n"
        "        netns.host.masquerade('192.0.2.0/24')\n"
    )
    outcome = run_pytest(NO_NFT, suite)
    assert outcome.counts == {"passed": 1}, outcome.output
