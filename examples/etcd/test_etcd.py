"""Three etcd nodes: the leader is cut off, in one and in both directions, and no acknowledged write is lost."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_netns import Cut, Lab

NODES = ("n1", "n2", "n3")
EVERY = ",".join(f"http://{name}:2379" for name in NODES)


@pytest.fixture
def cluster(netns: Lab, tmp_path: Path) -> Lab:
    """Three nodes on a switch, and the host with the client."""
    switch = netns.add_bridge("switch", "10.0.0.254/24")
    for number, name in enumerate(NODES, 1):
        switch.attach(netns.add_namespace(name), f"10.0.0.{number}/24")
    peers = ",".join(f"{name}=http://10.0.0.{number}:2380" for number, name in enumerate(NODES, 1))
    for number, name in enumerate(NODES, 1):
        client, peer = f"http://10.0.0.{number}:2379", f"http://10.0.0.{number}:2380"
        options = {
            "name": name,
            "data-dir": tmp_path / name,
            "initial-cluster": peers,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "heartbeat-interval": 50,
            "election-timeout": 500,
        }
        netns[name].start(["etcd", *(f"--{key}={value}" for key, value in options.items())])
    netns.wait_until(lambda: etcdctl(netns, "put", "ready", "yes"), timeout=60)
    return netns


def etcdctl(lab: Lab, *arguments: str, endpoints: str = EVERY) -> str:
    command = ["etcdctl", "--command-timeout=3s", "--dial-timeout=1s", f"--endpoints={endpoints}", *arguments]
    return lab.host.run(command).stdout


def leader(lab: Lab, among: Sequence[str]) -> str | None:
    """The leader among these nodes; None if there is none."""
    for name in among:
        status = lab.host.run(
            ["etcdctl", "--command-timeout=2s", f"--endpoints=http://{name}:2379", "endpoint", "status", "-w", "json"],
            check=False,
        )
        for answer in json.loads(status.stdout or "[]"):
            if (
                answer["Status"].get("leader") == answer["Status"]["header"]["member_id"]
            ):  # the key is missing if there is none
                return name
    return None


def check_that_nothing_is_lost(lab: Lab, fault: Callable[[str, list[str]], Cut]) -> None:
    """Write before, during and after a fault that replaces the leader; every node must have all acknowledged writes."""
    old = lab.wait_until(lambda: leader(lab, NODES), timeout=60)
    others = [name for name in NODES if name != old]
    etcdctl(lab, "put", "before", old)

    with fault(old, others):
        new = lab.wait_until(lambda: leader(lab, others), timeout=60)
        etcdctl(lab, "put", "during", new, endpoints=f"http://{new}:2379")

    etcdctl(lab, "put", "after", "healed")
    lab.wait_until(lambda: leader(lab, NODES), timeout=60)
    for name in NODES:
        for key, value in (("before", old), ("during", new), ("after", "healed")):
            assert etcdctl(lab, "get", key, "--print-value-only", endpoints=f"http://{name}:2379").strip() == value


def test_the_leader_is_partitioned(cluster: Lab) -> None:
    def fault(old: str, others: list[str]) -> Cut:
        return cluster.partition([old], others)

    check_that_nothing_is_lost(cluster, fault)


def test_packets_from_the_leader_are_dropped(cluster: Lab) -> None:
    def fault(old: str, others: list[str]) -> Cut:
        return cluster.cut(old, to=others)

    check_that_nothing_is_lost(cluster, fault)


def test_a_minority_takes_no_writes(cluster: Lab) -> None:
    old = cluster.wait_until(lambda: leader(cluster, NODES), timeout=60)
    with cluster[old].isolate():
        refused = cluster[old].run(
            ["etcdctl", "--command-timeout=3s", f"--endpoints=http://{old}:2379", "put", "lost", "1"], check=False
        )
        assert refused.returncode != 0
    cluster.wait_until(lambda: leader(cluster, NODES), timeout=60)
    assert etcdctl(cluster, "get", "lost") == ""
