"""Rules that users add as nft text, or with other programs: their effect on connections, mistakes and crashes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import Lab, RulesetError
from tests.support.traffic import connection, listen, peer_of_connection

ACTIONS: dict[str, Callable[[Lab], object]] = {
    "ruleset": lambda lab: lab.host.ruleset(),
    "list": lambda lab: lab.host.nft("list ruleset"),
    "a counter": lambda lab: lab.host.nft("table inet mine { counter c { }\n }"),
    "a filter": lambda lab: lab.host.nft("table inet mine { chain c { type filter hook input priority 0; }\n }"),
    "a translation": lambda lab: lab.host.nft("table ip mine { chain c { type nat hook prerouting priority -90; }\n }"),
    "another forward": lambda lab: lab.host.forward_port(8081, to="red:81", protocol=("tcp", "udp")),
    "another masquerade": lambda lab: lab.host.masquerade("10.99.0.0/24", out="eth0"),
    "one forward less": lambda lab: lab.host.forward_port(8082, to="red:81").remove(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("through", ["masquerade", "forward"])
def test_an_open_connection_continues(netns_nat: Lab, through: str, action: str) -> None:
    """After unrelated changes, the far side of a connection through NAT can still send first."""
    client, address, server = ("blue", "192.168.1.3", "outside")
    if through == "forward":
        netns_nat.host.forward_port(80, to="blue:80")
        client, address, server = ("outside", "192.168.1.2", "blue")
    with listen(netns_nat[server], 80) as listening:
        with connection(netns_nat[client], address, 80, listening) as (near, far, _):
            ACTIONS[action](netns_nat)
            far.sendall(b"news")
            assert near.recv(9) == b"news"


@pytest.mark.parametrize("forget", [True, False])
def test_datagrams_under_way_and_new_translations(netns_nat: Lab, forget: bool) -> None:
    """Later rules apply to a UDP flow, unless told otherwise; a call forgets flows explicitly."""
    host, outside = netns_nat.host, netns_nat["outside"]
    redirect = "table ip mine { chain c { type nat hook prerouting priority -150; udp dport 53 redirect to :5353; }; }"
    with (
        listen(host, 53, socket.SOCK_DGRAM) as before,
        listen(host, 5353, socket.SOCK_DGRAM) as after,
        outside.socket(type=socket.SOCK_DGRAM) as near,
    ):
        near.connect(("192.168.1.2", 53))
        near.send(b"one")
        assert before.recv(9) == b"one"
        host.nft(redirect, forget_connections=forget)
        near.send(b"two")
        assert (after if forget else before).recv(9) == b"two"
        host.forget_connections()
        near.send(b"three")
        assert after.recv(9) == b"three"


def test_a_forward_forgets_only_what_it_leads_elsewhere(netns_nat: Lab) -> None:
    """Another UDP flow through the masquerade stays tracked: its far side can send first."""
    with (
        listen(netns_nat["outside"], 9, socket.SOCK_DGRAM) as far,
        netns_nat["blue"].socket(type=socket.SOCK_DGRAM) as near,
    ):
        near.settimeout(5)
        near.connect(("192.168.1.3", 9))
        near.send(b"one")
        _, peer = far.recvfrom(9)
        netns_nat.host.forward_port("1-8", to="red", protocol="udp")
        far.sendto(b"news", peer)
        assert near.recv(9) == b"news"


def test_a_mistake_in_the_third_line(netns: Lab) -> None:
    """The message has the line number, the line, and a caret below the position."""
    text = "table ip a {\n  chain ok { type filter hook input priority 0; }\n  chain bad { nonsense }\n}\n"
    with pytest.raises(RulesetError) as caught:
        netns.host.nft(text)
    lines = caught.value.nft_message.splitlines()
    assert lines[0].startswith("line 3, column ")
    assert "syntax error" in lines[0]
    assert (
        lines[lines.index("  chain bad { nonsense }") + 1].strip() == "^"
    )  # newer versions first list what they expected
    assert caught.value.ruleset == text


@pytest.mark.parametrize(
    "text", ["add rule inet t c update @s { ip saddr : 1m }", "add rule inet t c ip saddr set 10.0.0.0/24"]
)
def test_a_text_that_nft_does_not_survive(netns: Lab, text: str) -> None:
    """A text that crashes nft, or that a newer nft refuses, is an error of the test, not the end of pytest."""
    red = netns.add_namespace("red")
    red.nft(
        "table inet t { set s { type ipv4_addr; flags timeout; }; chain c { type filter hook input priority 0; }; }"
    )
    with pytest.raises(RulesetError, match=r"nft crashed with SIG|Error"):
        red.nft(text)
    assert "chain c" in red.ruleset()


def test_datagrams_under_way_and_an_element_that_goes(netns_nat: Lab) -> None:
    """A port removed from a map by the user's text forgets flows: the same socket then reaches the gateway itself."""
    host = netns_nat.host
    host.forward_port(53, to="blue", protocol="udp")
    with (
        listen(netns_nat["blue"], 53, socket.SOCK_DGRAM) as inside,
        listen(host, 53, socket.SOCK_DGRAM) as own,
        netns_nat["outside"].socket(type=socket.SOCK_DGRAM) as near,
    ):
        near.connect(("192.168.1.2", 53))
        near.send(b"one")
        assert inside.recv(9) == b"one"
        host.nft("delete element inet netns udp4 { 53 }")
        near.send(b"two")
        assert own.recv(9) == b"two"


def test_signals_do_not_disturb(netns_nat: Lab) -> None:
    """Signals with a Python handler, at any moment of adding rules: no rule is refused or duplicated."""
    host = netns_nat.host
    arrived: list[int] = []  # an Event is not safe in handlers that interrupt each other
    before = signal.signal(signal.SIGALRM, lambda number, _: arrived.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    try:
        for port in range(5000, 5100):
            host.forward_port(port, to="blue")
            host.forward_port(port, to="blue", protocol="udp", source="10.0.0.0/8")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived
    assert host.ruleset().count("dnat ip to 192.168.15.2 comment") == 100
    assert len(re.findall(r": 192\.168\.15\.2 \. 5\d\d\d", host.ruleset())) == 100


@pytest.mark.parametrize("program", ["nft", "iptables", "iptables-legacy"])
def test_users_own_rules_live_beside_ours(netns_nat: Lab, program: str, tmp_path: Path) -> None:
    """Rules of nft, iptables-nft and iptables-legacy work together with ours, and do not change each other."""
    host = netns_nat.host
    if program == "nft":
        host.run(
            [
                "nft",
                "table ip mine { chain c { type nat hook prerouting priority -90; tcp dport 81 dnat to 192.168.15.2:80; }; }",
            ]
        )
        listing = "nft list table ip mine"
    else:
        rule = "PREROUTING -p tcp --dport 81 -j DNAT --to-destination 192.168.15.2:80"
        # Its lock is in /run, where only root can write.
        host.run(f"{program} -t nat -A {rule}", env={**os.environ, "XTABLES_LOCKFILE": str(tmp_path / "lock")})
        listing = f"{program}-save -t nat" if program == "iptables" else "iptables-legacy-save -t nat"
    forwarded = host.forward_port(8080, to="blue:80")
    with listen(netns_nat["blue"], 80) as server:
        for port in (81, 8080):
            assert peer_of_connection(netns_nat["outside"], "192.168.1.2", port, server) == "192.168.1.3"
    assert forwarded.packets
    forwarded.remove()
    assert "192.168.15.2:80" in host.run(listing).stdout
    with listen(netns_nat["blue"], 80) as server:
        peer_of_connection(netns_nat["outside"], "192.168.1.2", 81, server)
    with listen(netns_nat["outside"], 80) as server:
        assert peer_of_connection(netns_nat["red"], "192.168.1.3", 80, server) == "192.168.1.2"


def inherited() -> set[int]:
    """The descriptors that a program inherits by default."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found |= {int(name)} if os.get_inheritable(int(name)) else set()
    return found


def test_a_program_inherits_no_socket_of_nft(netns_nat: Lab) -> None:
    """Descriptors of libnftables are closed in programs: they would keep the namespace alive."""
    before = inherited()
    netns_nat.host.forward_port(8080, to="blue:80")
    netns_nat.host.ruleset()
    assert inherited() <= before


def test_no_program_inherits_the_socket_of_libnftables(netns: Lab) -> None:
    """It would keep the namespace alive for as long as the program runs."""
    before = _inheritable()
    netns.add_namespace("gw").masquerade("192.168.15.0/24")
    assert _inheritable() == before


def _inheritable() -> set[str]:
    """What a program that is started without closing descriptors would have open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            if os.get_inheritable(int(name)):
                found.add(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}")
    return found
