"""Existing network namespaces: members of a lab for a while, then restored."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import InvalidTopologyError, Lab, NotReadyError

HOLD = """
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 addrgenmode none
ip link set v1 addrgenmode none
ip address add 10.5.0.1/24 dev v0
ip address add fd05::1/64 dev v0 nodad
ip link set v0 up
ip link set v1 up
ip route add 10.6.0.0/16 via 10.5.0.2
ip route add fd06::/64 via fd05::2
nft add table inet theirs
until [ "$(ip -o link | grep -c "state UP")" = 2 ]; do sleep 0.01; done
echo ready
exec sleep 1000
"""
STATE = [
    "ip -o link",
    "ip -o address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "nft list ruleset",
]


class Container:
    """A process in a network namespace that no lab knows."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["unshare", "--net", "sh", "-c", HOLD], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def run(self, command: str) -> str:
        argv = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "sh", "-c", command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def state(self) -> dict[str, list[str]]:
        forwarding = self.run("cat /proc/sys/net/ipv4/ip_forward")
        return {**{command: sorted(self.run(command).splitlines()) for command in STATE}, "forwarding": [forwarding]}

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def container() -> Iterator[Container]:
    made = Container()
    yield made
    made.close()


def test_a_member_like_any_other(container: Container) -> None:
    """Links, addresses, routes, NAT, names, programs and faults work in it, and its own process shares in them."""
    with Lab("adopting") as lab:
        web, red, out = lab.adopt("web", pid=container.pid), lab.add_namespace("red"), lab.add_namespace("out")
        lab.add_veth(web, red, addresses=("192.168.15.1/24", "192.168.15.2/24"), names=("lan", "eth0"))
        lab.add_veth(web, out, addresses=("203.0.113.1/24", "203.0.113.2/24"), names=("wan", "eth0"))
        red.add_default_route(via="web")
        web.masquerade("192.168.15.0/24", out="wan")
        assert red.run("ping -c1 -W1 203.0.113.2").returncode == 0
        assert "192.168.15.1" in container.run("ip -o address")
        with lab.capture() as packets:
            container.run("ping -c1 -W1 192.168.15.2")
        assert any(each.namespace == "web" and each.sent for each in packets)
        with lab.partition(["web"], ["red"]):
            assert red.run("ping -c1 -W1 web", check=False).returncode != 0
        assert {"v0", "v1", "lan", "wan"} <= set(web.interfaces)
        assert "lan" in lab.draw()


def test_left_as_it_was_found(container: Container) -> None:
    """What the lab has added is removed, what it has changed is restored, and its process keeps running."""
    before = container.state()
    with Lab("adopting") as lab:
        web, red = lab.adopt("web", path=f"/proc/{container.pid}/ns/net"), lab.add_namespace("red")
        lab.add_veth(web, red, addresses=(["192.168.15.1/24", "fd00::1/64"], "192.168.15.2/24"))
        bridge = lab.add_bridge("br9", "10.99.0.1/24", namespace=web)
        lab.add_veth(web, web, names=("x0", "x1"))
        bridge.attach(red, "10.99.0.2/24")
        web.add_route("10.77.0.0/16", via="192.168.15.2")
        web.interfaces["v0"].add_address("10.5.0.9/24")
        web.interfaces["v0"].mtu = 1300
        web.interfaces["v0"].down()
        web.masquerade("10.99.0.0/24")
        web.forward_port(8080, to="red:80")
        web.nft("add table inet ours")
        web.sysctl("net.ipv4.ip_forward", 1)
        web.isolate()
        web.start(["sleep", "1000"])
        with web:
            subprocess.Popen(["true"]).wait()
        assert container.state() != before
    with (
        Lab() as lab,
        contextlib.suppress(NotReadyError),
    ):  # the kernel reports an interface's carrier a moment later
        lab.wait_until(lambda: container.state() == before)
    after = container.state()
    assert {command: lines for command, lines in after.items() if lines != before[command]} == {}
    assert container.is_running


def test_what_its_own_processes_add_stays(container: Container) -> None:
    """Only what was added through the lab is removed."""
    with Lab("adopting") as lab:
        lab.adopt("web", pid=container.pid)
        container.run("ip link add mine type bridge && ip address add 10.7.0.1/24 dev v0")
    assert "mine" in container.run("ip -o link")
    assert "10.7.0.1" in container.run("ip -o address")


def test_what_cannot_be_adopted(container: Container, tmp_path: Path) -> None:
    """Each mistake is named, and the lab keeps working."""
    (tmp_path / "file").write_text("")
    with Lab("adopting") as lab:
        lab.adopt("web", pid=container.pid)
        for arguments, message in (
            ({}, "give either pid= or path="),
            ({"pid": 1, "path": "/x"}, "give either pid= or path="),
            ({"pid": -1}, "-1 is not a PID"),
            ({"path": "/nowhere"}, "/nowhere: No such file or directory"),
            ({"path": str(tmp_path / "file")}, "is not a network namespace"),
            ({"path": "/proc/self/ns/uts"}, "is not a network namespace"),
            ({"pid": os.getpid()}, "is the network namespace that pytest itself is in"),
            ({"pid": container.pid}, "is already 'web' of this lab"),
        ):
            with pytest.raises(InvalidTopologyError, match=message):
                lab.adopt("other", **arguments)
        with pytest.raises(InvalidTopologyError, match="already has one of that name"):
            lab.adopt("web", pid=container.pid)
        assert list(lab) == [lab["web"]]


def test_one_of_another_user_namespace(container: Container, pytester: pytest.Pytester) -> None:
    """In rootless mode namespaces created outside are out of reach, and the error names the remedy."""
    pytester.makepyfile(f"def test_adopt(netns):\n    netns.adopt('theirs', pid={container.pid})\n")
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--netns-mode=rootless", "--netns-unavailable=fail"
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*may not enter*", "*run pytest as root*"])
