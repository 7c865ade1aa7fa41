"""The accuracy and the cost of impaired links. ``python -m tests.benchmarks.impairment [ENGINE ...]``.

Packets are numbered datagrams; their arrival time is the kernel's (SO_TIMESTAMPNS).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from pytest_netns import Impairment, Lab, UnavailableError, VethPair
from tests.support.processes import own_children, stat_of

ENGINES = ("userspace", "netem")
ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24")
PORT = 5000
HEADERS = 14 + 20 + 8  # bytes of Ethernet, IPv4 and UDP, which count for a rate
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
Z_99 = 2.576  # of the normal distribution, for a 99 % interval
QUIET = 0.3  # seconds without a packet, after which all have arrived


class Figure(NamedTuple):
    """One measurement, with its ``goal``."""

    measured: str
    asked: str
    value: float
    unit: str
    goal: str = ""


class Arrival(NamedTuple):
    """A received packet: its number, its delay in seconds, and its arrival time since 1970."""

    number: int
    took: float
    when: float


@contextlib.contextmanager
def link(engine: str) -> Iterator[VethPair]:
    """A link impaired by the engine."""
    with Lab("benchmark", engine=engine) as lab:
        a, b = lab.add_namespace("a"), lab.add_namespace("b")
        pair = lab.add_veth(a, b, addresses=ADDRESSES)
        a.run(["ping", "-c1", "10.0.0.2"])  # completes ARP
        yield pair


def send(pair: VethPair, count: int, *, size: int = 100, pause: float = 0.0) -> list[Arrival]:
    """Send a number of packets of a size from a to b; returns those that arrive."""
    receiver = pair.b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = pair.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        with contextlib.suppress(OSError):
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.bind(("", PORT))
        sender.connect((ADDRESSES[1].split("/")[0], PORT))
        sent = []
        run = os.urandom(8)  # late packets of the previous run are not counted
        padding = run + bytes(size - 12)
        for number in range(count):
            if pause:
                time.sleep(pause)
            sent.append(time.time())
            sender.send(struct.pack("!I", number) + padding)
        return list(_arrivals(receiver, sent, run))


def _arrivals(receiver: socket.socket, sent: list[float], run: bytes) -> Iterator[Arrival]:
    receiver.settimeout(QUIET + 1)
    with contextlib.suppress(TimeoutError):
        while True:
            data, ancillary, _, _ = receiver.recvmsg(2048, 100)
            (number,) = struct.unpack_from("!I", data)
            seconds, nanoseconds = struct.unpack_from("=qq", ancillary[0][2])
            when = seconds + nanoseconds / 1e9
            if data[4:12] == run:
                yield Arrival(number, when - sent[number], when)


def delays(pair: VethPair) -> Iterator[Figure]:
    """The deviation of the median delay, and of the slowest of 100, from the requested delay."""
    for asked in ("1ms", "10ms", "50ms", "200ms"):
        impairment = Impairment(delay=asked)
        pair.impair(impairment)
        took = sorted(each.took for each in send(pair, 200, pause=0.002))
        for what, index in (("median", 100), ("99th of 100", 198)):
            error = (took[index] - impairment.delay) * 1000
            yield Figure(f"delay, {what}", asked, error, "ms too late", "1 ms or 3 %")
    pair.impair(delay="50ms", jitter="10ms", limit=10_000)
    took = [each.took * 1000 for each in send(pair, 5000, pause=2e-4)]
    yield Figure("jitter: mean", "50ms, jitter 10ms", statistics.mean(took), "ms", "50")
    yield Figure("jitter: standard deviation", "50ms, jitter 10ms", statistics.stdev(took), "ms", "5.77, as it is even")
    pair.impair(delay="50ms", reorder="25%", limit=10_000)
    early = [each for each in send(pair, 10_000, pause=2e-4) if each.took < 0.045]
    yield Figure("reorder: share sent at once", "25%", len(early) / 100, "%", _interval(0.25))


def losses(pair: VethPair) -> Iterator[Figure]:
    """The shares of 10,000 packets that are lost and duplicated."""
    for asked in ("0.1%", "1%", "10%", "30%", "50%"):
        impairment = Impairment(loss=asked, limit=20_000)
        pair.impair(impairment)
        yield Figure("loss of 10,000", asked, 100 - _arrived(pair) / 100, "%", _interval(impairment.loss))
    pair.impair(duplicate="10%", limit=20_000)
    yield Figure("duplicates of 10,000", "10%", _arrived(pair) / 100 - 100, "%", _interval(0.1))
    pair.impair(delay="1ms", limit=20_000)
    yield Figure("unrequested loss", "none", 100 - _arrived(pair) / 100, "%", "0")


def _arrived(pair: VethPair) -> int:
    return len(send(pair, 10_000, pause=1e-6))


def _interval(share: float, count: int = 10_000) -> str:
    """The 99 % binomial interval, in percent."""
    margin = Z_99 * (share * (1 - share) / count) ** 0.5
    return f"{(share - margin) * 100:.2f} to {(share + margin) * 100:.2f}"


def rates(pair: VethPair) -> Iterator[Figure]:
    """The rate at which packets arrive that were sent at once."""
    for asked, count in (("1mbit", 200), ("10mbit", 1500), ("100mbit", 8000)):
        impairment = Impairment(rate=asked, limit=20_000)
        assert impairment.rate is not None
        pair.impair(impairment)
        found = send(pair, count, size=1400)
        rate = (len(found) - 1) * (1400 + HEADERS) * 8 / (found[-1].when - found[0].when)
        yield Figure("rate", asked, rate / impairment.rate * 100, "%", "97 to 103")


def throughput(pair: VethPair) -> Iterator[Figure]:
    """The throughput, and the helper's cost for a packet."""
    pair.impair(delay="100us", limit=100_000)
    before, count = _helper_time(), 100_000
    arrived = len(send(pair, count, size=64, pause=1e-6))
    spent = _helper_time() - before
    yield Figure("small packets that arrive", f"{count} one by one", arrived / count * 100, "%")
    if spent:
        yield Figure("processor time of a packet", "helper", spent / arrived * 1e6, "us")
        yield Figure("packets by that time", "per second", arrived / spent / 1000, "thousand")
    with contextlib.suppress(Exception):
        pair.b.namespace.start(["iperf3", "--server"], ready=5201)
        done = pair.a.namespace.run(["iperf3", "--client", "10.0.0.2", "--time", "3", "--json"])
        rate = json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]
        yield Figure("iperf3, TCP", "delay 100us", rate / 1e9, "Gbit/s")


def _helper_time() -> float:
    """The CPU seconds used by this process's user-space wires."""
    user_and_system = (stat_of(pid)[11:13] for pid in own_children("userwire.py"))
    return sum(int(ticks) for pair in user_and_system for ticks in pair) / os.sysconf("SC_CLK_TCK")


def costs(engine: str) -> Iterator[Figure]:
    """The time that impairing takes in the life of a lab."""
    found: dict[str, list[float]] = {}

    def timed(what: str, began: float) -> float:
        now = time.perf_counter()
        found.setdefault(what, []).append((now - began) * 1000)
        return time.perf_counter()

    for _ in range(10):
        lab = Lab("benchmark", engine=engine)
        a, b = lab.add_namespace("a"), lab.add_namespace("b")
        first, second = lab.add_veth(a, b), lab.add_veth(a, b)
        now = timed("", time.perf_counter())
        first.impair(delay="1ms")
        now = timed("first link of a lab", now)
        second.impair(delay="1ms")
        now = timed("another link", now)
        second.impair(delay="2ms")
        now = timed("a change", now)
        second.heal()
        now = timed("healing", now)
        lab.close()
        timed("closing the lab", now)
    yield from (Figure(what, "ms", statistics.median(each), "ms") for what, each in found.items() if what)


def measure(engine: str) -> Iterator[Figure]:
    """All figures of an engine.

    Raises:
        UnavailableError: this machine lacks the engine.
    """
    with link(engine) as pair:
        for figures in (delays, losses, rates, throughput):
            yield from figures(pair)
    yield from costs(engine)


def main() -> None:
    """Print the figures of the named engines, or of both."""
    for engine in sys.argv[1:] or ENGINES:
        try:
            for each in measure(engine):
                print(
                    f"{engine:10} {each.measured:28} {each.asked:18} {each.value:10.3f} {each.unit:12} {each.goal}",
                    flush=True,
                )
        except UnavailableError as error:
            print(f"{engine:10} {error.short()}")


if __name__ == "__main__":
    main()
