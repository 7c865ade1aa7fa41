"""A thousand port forwards, one by one and in one topology, compared with libnftables and as many simple rules."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from pytest_netns import Lab, Namespace, PortForwardSpec
from pytest_netns.kernel.nft.nftables import load

COUNT = 1000
TARGET = "192.168.15.2"
CHAIN = "table inet t { chain c { type nat hook prerouting priority -100; }\n }"
PORTS = range(5000, 5000 + COUNT)


def race(rounds: int) -> dict[str, float]:
    """The median seconds of each, run alternately."""
    contenders: dict[str, Callable[[], float]] = {
        "ours, one by one": _ours_one_by_one,
        "nft, one by one": lambda: _nft([_rule(port) for port in PORTS]),
        "ours, in one topology": _ours_together,
        "nft, in one transaction": lambda: _nft(["\n".join(map(_rule, PORTS))]),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run())
    return {name: statistics.median(each) for name, each in times.items()}


def _rule(port: int) -> str:
    return f"add rule inet t c tcp dport {port} counter dnat ip to {TARGET}:{port}"


def _nft(texts: list[str]) -> float:
    """Seconds for texts with libnftables in this process, in a separate namespace."""
    with Lab() as lab, lab.add_namespace("gw").programs.network.entered():
        nft = load().Nftables()
        assert nft.cmd(CHAIN)[0] == 0
        started = time.perf_counter()
        for text in texts:
            assert nft.cmd(text)[0] == 0
        return time.perf_counter() - started


def _gateway(lab: Lab) -> Namespace:
    gateway = lab.add_namespace("gw")
    lab.add_veth(gateway, lab.add_namespace("blue"), addresses=("192.168.15.1/24", f"{TARGET}/24"))
    return gateway


def _ours_one_by_one() -> float:
    with Lab() as lab:
        gateway = _gateway(lab)
        started = time.perf_counter()
        for port in PORTS:
            gateway.forward_port(port, to=TARGET)
        return time.perf_counter() - started


def _ours_together() -> float:
    with Lab() as lab:
        _gateway(lab)
        specs = [PortForwardSpec("gw", port, TARGET) for port in PORTS]
        started = time.perf_counter()
        lab["gw"].gateway.add(specs)  # the same as for a validated topology
        return time.perf_counter() - started
