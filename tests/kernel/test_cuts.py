"""Cuts, partitions and isolations: which packets pass, with real packets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pytest_netns import InvalidTopologyError, Lab, Namespace, partitions


def reaches(source: Namespace, address: str) -> bool:
    """Whether a ping is answered."""
    return source.run(["ping", "-c1", "-W1", address], check=False).returncode == 0


@pytest.fixture
def cluster() -> Iterator[Lab]:
    """Three namespaces on a bridge in host, 10.0.0.1 to .3 and fd00::1 to ::3; the host is .254."""
    with Lab("cluster") as lab:
        switch = lab.add_bridge("switch", ["10.0.0.254/24", "fd00::fe/64"])
        for number in (1, 2, 3):
            switch.attach(lab.add_namespace(f"n{number}"), [f"10.0.0.{number}/24", f"fd00::{number}/64"])
        yield lab


@pytest.fixture
def routed() -> Iterator[Lab]:
    """inner - gw - outer: 10.1.0.1, a router, 10.2.0.1; IPv6 fd01::1, fd02::1."""
    with Lab("routed") as lab:
        inner, gw, outer = (lab.add_namespace(name) for name in ("inner", "gw", "outer"))
        lab.add_veth(inner, gw, addresses=(["10.1.0.1/24", "fd01::1/64"], ["10.1.0.254/24", "fd01::fe/64"]))
        lab.add_veth(outer, gw, addresses=(["10.2.0.1/24", "fd02::1/64"], ["10.2.0.254/24", "fd02::fe/64"]))
        gw.enable_forwarding()
        inner.add_default_route(via="10.1.0.254")
        inner.add_default_route(via="fd01::fe")
        yield lab


def give_outer_routes(lab: Lab) -> None:
    lab["outer"].add_default_route(via="10.2.0.254")
    lab["outer"].add_default_route(via="fd02::fe")


def test_nothing_passes_between_groups_either_way(cluster: Lab) -> None:
    """Across a partition neither family passes, within a group both do, the switch reaches all, and healing undoes it."""
    n1, n2, n3 = (cluster[name] for name in ("n1", "n2", "n3"))
    before = {each.name: each.ruleset() for each in cluster}
    assert reaches(n1, "10.0.0.2")
    with cluster.partition(["n1"], [n2, "n3"]) as partition:
        assert not reaches(n1, "10.0.0.2")
        assert not reaches(n3, "fd00::1")
        assert reaches(n2, "10.0.0.3")
        assert reaches(n2, "fd00::3")
        assert reaches(n1, "10.0.0.254")
        assert partition.dropped > 0
        assert all(interface.has_carrier for interface in n1.interfaces.values())
    assert reaches(n1, "10.0.0.2")
    assert {each.name: each.ruleset() for each in cluster} == before
    assert partition.dropped > 0


def test_a_namespace_in_two_groups_sees_both(cluster: Lab) -> None:
    """The shape "bridge": n2 reaches n1 and n3, which do not reach each other."""
    with cluster.partition(["n1", "n2"], ["n2", "n3"]):
        assert not reaches(cluster["n1"], "10.0.0.3")
        assert reaches(cluster["n2"], "10.0.0.1")
        assert reaches(cluster["n2"], "10.0.0.3")


def test_a_cut_is_one_way(cluster: Lab) -> None:
    """Packets from n1 do not reach n2; those from n2 reach n1."""
    n1, n2 = cluster["n1"], cluster["n2"]
    with cluster.cut("n1", to="n2"), cluster.capture() as packets:
        assert not reaches(n2, "10.0.0.1")
        arrived = [each for each in packets if each.namespace == "n1" and not each.sent and each.source == "10.0.0.2"]
        refused = [each for each in packets if each.namespace == "n2" and not each.sent and each.source == "10.0.0.1"]
        assert [each.dropped for each in arrived] == [False] * len(arrived) != []
        assert [each.dropped for each in refused] == [True] * len(refused) != []
    assert reaches(n1, "10.0.0.2")


def test_without_addresses(cluster: Lab) -> None:
    """On one segment frames are cut, including ARP, IPv6 link-local and addresses added later."""
    new = cluster.add_namespace("new")
    switch = cluster.host.interfaces["switch"]
    switch.attach(new, name="eth0")  # type: ignore[attr-defined]
    with cluster.cut("new", to="n1"):
        new.interfaces["eth0"].add_address("10.0.0.9/24")
        assert not reaches(new, "10.0.0.1")
        assert reaches(new, "10.0.0.2")


@pytest.mark.parametrize("address", ["10.2.0.1", "fd02::1"])
def test_across_a_router(routed: Lab, address: str) -> None:
    """Namespaces that share no segment are distinguished by their addresses; others behind the same router are not cut."""
    give_outer_routes(routed)
    assert reaches(routed["inner"], address)
    with routed.partition(["inner"], ["outer"]):
        assert not reaches(routed["inner"], address)
        assert reaches(routed["gw"], address)
    assert reaches(routed["inner"], address)


def test_through_nat(routed: Lab) -> None:
    """A router of the lab that masquerades knows both ends, so a partition works through it, including port forwards."""
    gw, inner, outer = routed["gw"], routed["inner"], routed["outer"]
    gw.masquerade("10.1.0.0/24", out="veth-gw-2")
    gw.forward_port(8080, to="inner:80")
    inner.start(["python3", "-m", "http.server", "80"], ready=80)
    assert reaches(inner, "10.2.0.1")
    assert outer.probe("10.2.0.254:8080") == "open"
    with routed.partition(["inner"], ["outer"]):
        assert not reaches(inner, "10.2.0.1")
        assert outer.probe("10.2.0.254:8080", timeout=0.3) == "timeout"
        assert reaches(gw, "10.2.0.1")
    assert outer.probe("10.2.0.254:8080") == "open"


def test_an_open_connection_is_cut_and_continues_after_healing(cluster: Lab) -> None:
    """A cut applies to open connections, including tracked ones; TCP retransmits once it is healed."""
    n1, n2 = cluster["n1"], cluster["n2"]
    n1.nft("table inet t { chain c { type filter hook input priority 0; ct state established accept\n }\n }")
    listener = n2.create_server(("10.0.0.2", 80))
    client = n1.create_connection(("10.0.0.2", 80), timeout=10)
    server, _ = listener.accept()
    with contextlib.ExitStack() as stack:
        for each in (listener, client, server):
            stack.enter_context(each)
        server.settimeout(0.3)
        with cluster.partition(["n1"], ["n2"]):
            client.sendall(b"x")
            with pytest.raises(TimeoutError):
                server.recv(1)
        server.settimeout(10)
        assert server.recv(1) == b"x"


def test_isolation(cluster: Lab) -> None:
    """An isolated namespace neither sends nor receives; its loopback interface works, and interfaces keep their carrier."""
    n1 = cluster["n1"]
    with n1.isolate() as isolation, cluster.capture() as packets:
        assert not reaches(n1, "10.0.0.254")
        assert not reaches(cluster["n2"], "10.0.0.1")
        assert reaches(n1, "127.0.0.1")
        assert n1.interfaces["veth-n1"].has_carrier
        assert isolation.dropped > 0
        assert any(each.dropped for each in packets if each.namespace == "host")
    assert reaches(n1, "10.0.0.2")


def test_heal_undoes_all(cluster: Lab) -> None:
    """lab.heal() undoes all faults, in any order, and leaves healed ones alone."""
    first = cluster.partition(["n1"], ["n2"])
    cluster.cut("n3", to=["n1", "n2"])
    cluster["n2"].isolate()
    first.heal()
    cluster.heal()
    assert all(reaches(cluster[f"n{a}"], f"10.0.0.{b}") for a, b in ((1, 2), (2, 3), (3, 1)))
    assert "counter" not in cluster["n1"].ruleset()


@pytest.mark.parametrize("undo", ["up", "with", "heal"])
def test_an_interface_that_was_switched_off(cluster: Lab, undo: str) -> None:
    """It is up again, with its static routes, after up(), after a block, and after lab.heal(); deletion meanwhile is no error."""
    n1 = cluster["n1"]
    interface = n1.interfaces["veth-n1"]
    n1.add_route("10.9.0.0/16", via="10.0.0.2")
    before = [str(route) for route in n1.routes()]
    if undo == "with":
        with interface.down():
            assert not interface.is_up
    else:
        interface.down()
        assert not interface.is_up
        interface.up() if undo == "up" else cluster.heal()
    assert [str(route) for route in n1.routes()] == before
    assert not cluster.faults.active()
    interface.down()
    interface.delete()
    cluster.heal()


def test_what_was_off_before_stays_off(cluster: Lab) -> None:
    """Only an interface that a fault has set down is set up at its end."""
    interface = cluster["n1"].interfaces["veth-n1"]
    cluster["n1"].run("ip link set veth-n1 down")
    with interface.down():
        pass
    cluster.heal()
    assert not interface.is_up


def test_shown_in_drawing_and_capture(cluster: Lab) -> None:
    """While in force, the cut is in the drawing, and dropped packets are marked in their lines."""
    with cluster.partition(["n1"], ["n2", "n3"]):
        assert "partition: n1 | n2, n3" in cluster.draw()
    assert "partition" not in cluster.draw()


def test_shapes_are_groups(cluster: Lab) -> None:
    """A ready-made shape can be passed as it is."""
    with cluster.partition(*partitions.isolated(["n2", "n1", "n3"])):
        assert not reaches(cluster["n1"], "10.0.0.2")
        assert reaches(cluster["n1"], "10.0.0.3")


def test_rules_that_were_flushed(cluster: Lab) -> None:
    """Healing works although the namespace's own program has flushed all rules."""
    partition = cluster.partition(["n1"], ["n2"])
    cluster["n1"].run("nft flush ruleset")
    partition.heal()
    assert reaches(cluster["n1"], "10.0.0.2")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["n1"]], "cannot partition 1 group: give two or more"),
        ([["n1"], ["nn"]], r"cannot find namespace 'nn' in this lab: valid are 'host', 'n1'"),
        ([["n1", "n2"], ["n1", "n2"]], "all namespaces share a group"),
        ([["n1"], []], "cannot use an empty group of namespaces"),
        ([["n1"], [7]], "cannot use 7 as namespace"),
    ],
)
def test_groups_that_make_no_sense(cluster: Lab, groups: list[list[str]], message: str) -> None:
    """An invalid group is named, and nothing is cut."""
    with pytest.raises(InvalidTopologyError, match=message):
        cluster.partition(*groups)
    assert reaches(cluster["n1"], "10.0.0.2")


def test_cut_off_from_itself(cluster: Lab) -> None:
    """A namespace cannot be cut off from itself."""
    with pytest.raises(InvalidTopologyError, match="cannot cut namespace 'n1' off from itself"):
        cluster.cut("n1", to="n1")
