"""Handles and values: importable, equal if they mean the same, and with errors for unknown attributes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

import pytest_netns
from pytest_netns import PICTURES, Healable, Lab, LabFactory, UnavailableError

HANDLES: dict[str, Callable[[Lab], object]] = {
    "lab": lambda lab: lab,
    "factory": lambda lab: LabFactory(),
    "namespace": lambda lab: lab["red"],
    "interface": lambda lab: lab["red"].interfaces["veth-red"],
    "bridge": lambda lab: lab.add_bridge("br0"),
    "pair": lambda lab: lab.add_veth(lab["red"], lab["blue"]),
    "process": lambda lab: lab["red"].popen(["sleep", "600"]),
    "service": lambda lab: lab["red"].start(["sleep", "600"]),
    "capture": lambda lab: lab.captures.recording,
    "masquerade": lambda lab: lab["red"].masquerade("10.0.0.0/24"),
    "port forward": lambda lab: lab["red"].forward_port(80, to="blue:80"),
    "nat": lambda lab: lab["red"].nat("10.0.0.0/24", out="veth-red"),
    "snat": lambda lab: lab["red"].snat("10.0.0.1", to="192.168.15.77"),
    "prefix": lambda lab: lab["red"].nptv6("fd01::/48", "fd02::/48", out="veth-red"),
    "firewall": lambda lab: lab["red"].firewall(),
    "firewall rule": lambda lab: lab["red"].firewall().accept(source="blue"),
    "portal": lambda lab: lab["red"].captive_portal("10.0.0.0/24", to="blue:80"),
    "black hole": lambda lab: lab["red"].block_icmp_too_big(),
    "terminal": lambda lab: lab["red"].popen(["sleep", "600"], pty=True),
    "Open vSwitch": lambda lab: lab.add_bridge("ovs0", kind="openvswitch"),
    "uplink": lambda lab: lab["red"].add_uplink(),
    "cut": lambda lab: lab.cut("red", to="blue"),
    "interface down": lambda lab: lab["red"].interfaces["veth-red"].down(),
    "unplugged": lambda lab: lab["red"].unplug(),
    "impaired": lambda lab: lab["red"].interfaces["veth-red"].impair(delay="1ms"),
    "frozen": lambda lab: lab["red"].freeze(),
    "paused": lambda lab: lab["red"].start(["sleep", "600"]).pause(),
    "crashed": lambda lab: lab["red"].crash(),
    "nemesis": lambda lab: lab.nemesis([lambda: lab.cut("red", to="blue")], every=1),
}


@pytest.mark.parametrize("kind", HANDLES)
def test_a_mistake_in_an_attribute_is_an_error(netns_pair: Lab, kind: str) -> None:
    """Unknown attributes cannot be set: a typing mistake is an error."""
    try:
        thing = HANDLES[kind](netns_pair)
    except UnavailableError as error:
        pytest.skip(str(error))
    with pytest.raises(AttributeError, match="mut"):
        thing.mut = 1400  # type: ignore[attr-defined]
    assert type(thing).__name__ in repr(thing) or isinstance(thing, Healable)
    assert "object at 0x" not in repr(thing)
    for public in type(thing).__mro__:  # a fault by its interface, another handle by its class
        if getattr(pytest_netns, public.__name__, None) is public:
            break
    else:
        assert isinstance(thing, Healable)


def test_what_a_fault_returns_undoes_it(netns_pair: Lab) -> None:
    """Every fault is undone by its ``heal()``, which is idempotent; its repr describes it."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    link = red.interfaces["veth-red"]
    for begin, words in (
        (link.down, "red/veth-red is down"),
        (blue.unplug, "red/veth-red -- blue/veth-blue is unplugged"),
        (lambda: link.impair(loss="100%"), "red/veth-red: loss 100%"),
        (red.isolate, "red: isolated"),
        (red.crash, "red: crashed"),
    ):
        fault = begin()
        assert words in repr(fault)
        assert red.probe("blue:80", timeout=0.2) != "refused"
        fault.heal()
        fault.heal()
        assert red.probe("blue:80") == "refused"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("namespace", "name"), ("interface", "name"), ("interface", "index"), ("port forward", "spec"), ("snat", "spec"),
        ("nat", "kind"), ("prefix", "inner"), ("firewall", "rules"), ("firewall rule", "spec"), ("nemesis", "seed"),
    ],
)  # fmt: skip
def test_what_is_fixed_cannot_be_set(netns_pair: Lab, kind: str, name: str) -> None:
    """Read-only properties cannot be set."""
    with pytest.raises(AttributeError):
        setattr(HANDLES[kind](netns_pair), name, "eth9")


def test_handles_of_the_same_thing_are_equal(netns: Lab) -> None:
    """Interfaces of programs too, and both orders of a pair's ends."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    red.run("ip link add extra type bridge")
    assert red.interfaces["extra"] == red.interfaces["extra"]
    assert red.interfaces["extra"] != red.interfaces["lo"]
    pair = netns.add_veth(red, blue)
    assert pair == type(pair)(pair.b, pair.a)
    assert hash(pair) == hash(type(pair)(pair.b, pair.a))
    assert pair != netns.add_veth(red, blue)
    assert netns["red"] is red


@pytest.mark.parametrize("name", pytest_netns.__all__)
def test_public_names(name: str) -> None:
    """Each public name can be imported, and has a description."""
    value = getattr(pytest_netns, name)
    assert not callable(value) or value.__doc__


def test_every_handle_is_importable(netns_pair: Lab) -> None:
    """Every type that users get can be used in an annotation."""
    red = netns_pair["red"]
    red.run("ping -c1 blue")
    recording = netns_pair.captures.recording
    assert recording is not None
    for each in (recording, recording[0], red.routes()[0], red.neighbours()[0], LabFactory(), PICTURES["lan"]):
        assert getattr(pytest_netns, type(each).__name__) is type(each)


PROGRAM = """
import os
from pytest_netns import PICTURES, Lab, become_rootless
machine = os.readlink("/proc/self/ns/net")
become_rootless()
become_rootless()
with Lab() as lab:
    lab.build(PICTURES["pair"])
    with lab["red"]:
        pass
    print(lab["red"].run("ping -c1 blue").stdout)
    open_files = {os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry)}
    assert os.readlink("/proc/self/ns/net") == machine or machine not in open_files
"""


def test_a_program_without_pytest() -> None:
    """A program creates networks without root and without pytest."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " 0% packet loss" in done.stdout


def test_a_program_of_an_ordinary_user() -> None:
    """The same for an unprivileged user; root tries as nobody."""
    import os

    if os.getuid() != 0:
        pytest.skip("needs root: to become another user")
    options = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run([*options, sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd="/tmp")
    assert done.returncode == 0, done.stderr
    assert " 0% packet loss" in done.stdout
