"""The user-space wire: its own properties, besides those of every engine."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pytest_netns import LTE, Lab, UnavailableError, VethPair
from pytest_netns.faults import seeds
from pytest_netns.kernel.spaces import destruction
from tests.support.impaired import A, B, numbers, round_trip
from tests.support.processes import own_children
from tests.support.traffic import reaches


@pytest.fixture
def wired() -> Iterator[VethPair]:
    """A link impaired by the user-space wire, whatever the kernel has."""
    with Lab("test", engine="userspace") as lab:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        pair = lab.add_veth(red, blue, addresses=(f"{A}/24", f"{B}/24"))
        assert reaches(red, B)
        pair.impair(delay="20ms")
        yield pair


def test_one_process(wired: VethPair) -> None:
    """For any number of impaired links and labs there is one helper; it holds nothing of a closed lab."""
    (pid,) = own_children("userwire.py")
    lab = wired.a.namespace.lab
    lab.add_veth(wired.a.namespace, wired.b.namespace, impairment=LTE)
    with Lab("other", engine="userspace") as other:
        first, second = other.add_namespace("first"), other.add_namespace("second")
        other.add_veth(first, second, impairment=LTE)
        assert own_children("userwire.py") == [pid]
    assert round_trip(wired.a.namespace, B) >= 40
    lab.close()
    hub = destruction.hub()
    hub.wait(5)
    assert hub.alive() == []
    assert own_children("userwire.py") == [pid]


def test_a_refused_request_at_the_end(wired: VethPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel refuses a message to the helper while a lab is closed, it still holds nothing of that lab."""

    def refused(*_: object) -> None:
        monkeypatch.undo()
        raise PermissionError(errno.EPERM, "refused once")

    sent_by = socket.send_fds
    monkeypatch.setattr(socket, "send_fds", refused)
    wired.a.namespace.lab.close()
    assert sent_by is socket.send_fds
    hub = destruction.hub()
    hub.wait(5)
    assert hub.alive() == []
    assert len(own_children("userwire.py")) == 1


class RefusedPoll:
    """A `select.poll` that the kernel refuses."""

    used = False

    def register(self, fd: int, events: int) -> None:
        """Accept any descriptor."""

    def poll(self, timeout: float) -> None:
        """Fail like a poll that a seccomp filter refuses."""
        RefusedPoll.used = True
        raise PermissionError(errno.EPERM, "refused")


def test_a_refused_poll_at_the_end(wired: VethPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel does not tell whether the helper lives while a lab is closed, it still holds nothing of that lab."""
    refused = SimpleNamespace(poll=RefusedPoll, select=select.select)
    with monkeypatch.context() as patch:
        patch.setattr("pytest_netns.kernel.programs.wirehelper.select", refused)
        wired.a.namespace.lab.close()
    assert RefusedPoll.used
    hub = destruction.hub()
    hub.wait(5)
    assert hub.alive() == []
    assert len(own_children("userwire.py")) == 1


def test_flushing_the_ruleset_does_not_heal(wired: VethPair) -> None:
    """A firewall that starts with "flush ruleset" leaves the link impaired."""
    wired.a.namespace.nft("flush ruleset")
    assert round_trip(wired.a.namespace, B) >= 40


def test_a_killed_wire_is_reported(wired: VethPair) -> None:
    """Without its helper a link is unimpaired again; the drawing and the next change report it; then there is a new helper."""
    lab = wired.a.namespace.lab
    (pid,) = own_children("userwire.py")
    os.kill(pid, signal.SIGKILL)
    lab.wait_until(lambda: "NOT in force: the user-space wire" in lab.draw())
    assert numbers(wired, 20) == list(range(20))
    wired.impair(loss="100%")
    assert numbers(wired, 20) == []
    wired.heal()
    assert numbers(wired, 20) == list(range(20))


def test_the_wire_needs_ethernet(wired: VethPair) -> None:
    """An interface without Ethernet frames is refused, with the alternative."""
    red = wired.a.namespace
    if not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("needs root: /dev/net/tun")
    red.run("ip tuntap add dev tun0 mode tun")
    with pytest.raises(UnavailableError, match="tun0 in namespace 'red' has no Ethernet frames"):
        red.interfaces["tun0"].impair(delay="1ms")


@pytest.fixture
def run_seed() -> Iterator[None]:
    """Restore the run's seed at the end."""
    before = seeds.run_seed()
    yield
    seeds.set_run_seed(before)


@pytest.mark.usefixtures("run_seed")
def test_runs_of_one_seed_lose_the_same_packets() -> None:
    """An impairment without a seed draws one from the run's, so that a run can be repeated; the report shows it."""
    found = []
    for seed in (1, 1, 2):
        seeds.set_run_seed(seed)
        with Lab("test", engine="userspace") as lab:
            red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
            pair = lab.add_veth(red, blue, addresses=(f"{A}/24", f"{B}/24"))
            assert reaches(red, B)
            pair.a.impair(loss="50%")
            assert f"--netns-seed={seed}" in "".join(note.text for note in lab.notes.collect())
            found.append(numbers(pair, 100))
    assert found[0] == found[1] != found[2]
