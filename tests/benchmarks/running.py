"""Programs in a namespace: the cost of starting one, and of its packets."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pytest_netns import Lab, Namespace
from pytest_netns.kernel.system import syscalls
from pytest_netns.topology import PICTURES
from tests.benchmarks import race

BALLAST = 500 * 1024 * 1024
TRUE = ["/bin/true"]


def start_program(rounds: int, held: int = 0) -> dict[str, float]:
    """Seconds to run `true`, alternately, while this process holds a number of bytes; the medians."""
    ballast = bytearray(held)
    ballast[::4096] = b"x" * len(ballast[::4096])
    with Lab("benchmark") as lab:
        red = lab.add_namespace("red")
        red.run(TRUE)
        times = _race(red, rounds)
    return {way: statistics.median(each) for way, each in times.items()}


def _race(red: Namespace, rounds: int) -> dict[str, list[float]]:
    with _named_namespace() as name:
        ways: dict[str, Callable[[], object]] = {
            "ns.run": lambda: red.run(TRUE),
            "subprocess": lambda: subprocess.run(TRUE, check=True, capture_output=True, text=True),
            "ip netns exec": lambda: subprocess.run(
                ["ip", "netns", "exec", name, *TRUE], check=True, capture_output=True, text=True
            ),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        names, order = list(ways), random.Random(0)
        for number in range(rounds + 1):
            for way in names:
                start = time.perf_counter()
                ways[way]()
                if number:
                    times[way].append(time.perf_counter() - start)
            order.shuffle(names)  # the one after the largest program finds cold caches
    return times


@contextmanager
def _named_namespace() -> Iterator[str]:
    """A namespace created by ip, whose mounts are visible only to this thread."""
    name = f"netns-benchmark-{uuid.uuid4().hex[:8]}"
    os.makedirs("/run/netns", exist_ok=True)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("tmpfs", "/run/netns", "tmpfs")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def traffic(by_hand: Sequence[str], rounds: int) -> dict[str, float]:
    """Bits per second of TCP from red to outside through host's NAT, alternately; the medians.

    Args:
        by_hand: the program that builds the same network with ip and nft commands.
        rounds: the number of rounds, of one second each.
    """
    rates: dict[str, list[float]] = {"ours": [], "by hand": []}
    other = race.Contender(by_hand)
    try:
        other.step("up")
        with Lab("benchmark") as lab:
            lab.build(PICTURES["nat"])
            lab["outside"].start(["iperf3", "--server"], ready=5201)
            for _ in range(rounds):
                rates["ours"].append(_rate(lab["red"]))
                rates["by hand"].append(other.step("rate") * 1e6)
        other.step("down")
    finally:
        other.close()
    return {name: statistics.median(each) for name, each in rates.items()}


def _rate(client: Namespace) -> float:
    result = client.run(["iperf3", "--client", "192.168.1.3", "--time", "1", "--json"])
    return float(json.loads(result.stdout)["end"]["sum_received"]["bits_per_second"])
