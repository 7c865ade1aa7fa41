"""pyroute2's objects bound to a namespace: in any thread and event loop they act on that namespace, until the lab is closed."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_netns import Lab, LabClosedError

# NDB stops its event loop before its socket is closed, so Python's garbage collector does that (pyroute2 0.9.7).
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)


def names(ipr: Any) -> list[str]:
    """The interfaces that an IPRoute lists."""
    return sorted(link.get_attr("IFLA_IFNAME") for link in ipr.get_links())


def test_real_iproute_from_any_thread(netns_pair: Lab) -> None:
    """What it creates is in the namespace, from the opening thread and from others, each with its own socket."""
    red = netns_pair["red"]
    with red.iproute() as ipr, ThreadPoolExecutor(3) as pool:
        assert names(ipr) == ["lo", "veth-red"]
        ipr.link("add", ifname="br7", kind="bridge")
        assert "br7" in red.interfaces
        ready = threading.Barrier(3)

        def work() -> list[str]:
            ready.wait(10)
            return names(ipr)

        futures = [pool.submit(work) for _ in range(3)]
        assert [each.result(10) for each in futures] == [["br7", "lo", "veth-red"]] * 3


def test_iproute_opened_inside_another_namespace(netns_pair: Lab) -> None:
    """It acts on its own namespace, not on that of the thread."""
    with netns_pair["blue"], netns_pair["red"].iproute() as ipr:
        assert names(ipr) == ["lo", "veth-red"]
    assert netns_pair["red"].call(lambda: names(netns_pair["blue"].iproute())) == ["lo", "veth-blue"]


def test_iproute_in_a_running_loop(netns_pair: Lab) -> None:
    """The asynchronous one works in a running event loop, several at once."""

    async def list_of(name: str) -> list[str]:
        async with netns_pair[name].iproute(asynchronous=True) as ipr:
            return sorted([link.get_attr("IFLA_IFNAME") async for link in await ipr.get_links()])

    async def both() -> tuple[list[str], list[str]]:
        return await asyncio.gather(list_of("red"), list_of("blue"))

    assert [*asyncio.run(both())] == [["lo", "veth-red"], ["lo", "veth-blue"]]


def test_ndb(netns_pair: Lab) -> None:
    """NDB and its threads see the namespace, and nothing of them remains once it is closed."""
    before = set(threading.enumerate())
    with netns_pair["red"].ndb() as ndb:
        assert sorted(each.ifname for each in ndb.interfaces.dump()) == ["lo", "veth-red"]
        ndb.interfaces.create(ifname="br7", kind="bridge").set("state", "up").commit()
        assert netns_pair["red"].interfaces["br7"].is_up
    assert not [each for each in threading.enumerate() if each not in before and "NDB" in each.name]
    del ndb
    gc.collect()


def test_conntrack(netns_nat: Lab) -> None:
    """Conntrack lists the connections of the namespace, and no others."""
    netns_nat["red"].run("ping -c1 192.168.1.3")
    with netns_nat.host.conntrack() as tracked, netns_nat["red"].conntrack() as other:
        entries = list(tracked.dump())
        assert "192.168.15.1" in str(entries)
        assert list(other.dump()) == []


@pytest.mark.parametrize("what", ["iproute", "ndb", "conntrack"])
def test_closed_with_the_lab(what: str) -> None:
    """Objects that a test leaves open are closed with the lab, and keep no namespace alive; closing again is no error."""
    with Lab() as lab:
        opened: Any = getattr(lab.add_namespace("red"), what)()
        if what == "iproute":
            names(opened)
    opened.close()
    del opened
    gc.collect()
    open_sockets = [each for each in gc.get_objects() if isinstance(each, socket.socket) and each.fileno() >= 0]
    assert not [each for each in open_sockets if each.family == socket.AF_NETLINK and type(each).__name__ == "NoClose"]


def test_after_the_lab_is_closed(netns: Lab) -> None:
    """A late thread in a closed lab gets an error and does not act on the real host."""
    with Lab() as lab:
        red = lab.add_namespace("red")
        ipr = red.iproute()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(names, ipr)
        assert isinstance(future.exception(10), LabClosedError | OSError)
    calls: tuple[Callable[[], object], ...] = (red.iproute, red.ndb, red.conntrack)
    for call in calls:
        with pytest.raises(LabClosedError):
            call()
