"""Benchmarks: ratios of medians of interleaved runs. ``python -m tests.benchmarks [NUMBER ...]``; needs root.

Numbers: 1 pair, 2 NAT, 3 marked empty test, 4 running a program, 5 start-up, 6 growth, 7 parallel runs, 8 traffic, 9 impaired links, 10 port forwards.
With ``--before DIRECTORY``, 1 to 7 are compared with another checkout of this project instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # measured code must not be compiled each time
from pytest_netns import UnavailableError
from tests.benchmarks import before, forwards, impairment, race, running, suites
from tests.benchmarks.programs import Programs
from tests.benchmarks.rows import Row

EMPTY_TESTS = 500
LAN_TESTS = 400
TOGETHER = 5  # networks in a row


def pair(programs: Programs, scale: float) -> Iterator[Row]:
    """1: set-up and teardown of red--blue."""
    others = {"C": programs.kernel("pair"), "ip commands": programs.ip_commands("pair"), **programs.peers()}
    goals = {"C": "<= 1.3", "ip commands": "<= 0.125"}
    times, failures = race.run({"ours": programs.ours("pair"), **others}, max(3, int(20 * scale)), together=TOGETHER)
    yield from _ratios(1, "pair: set-up + teardown", times, failures, goals)


def nat(programs: Programs, scale: float) -> Iterator[Row]:
    """2: the picture netns_nat."""
    others = {"C": programs.kernel("nat"), "ip commands": programs.ip_commands("nat")}
    times, failures = race.run({"ours": programs.ours("nat"), **others}, max(3, int(20 * scale)), together=TOGETHER)
    yield from _ratios(2, "nat: set-up + teardown", times, failures, {"C": "<= 1.4"})


def empty_test(programs: Programs, scale: float) -> Iterator[Row]:
    """3: a marked test that does nothing, and the parts of its time.

    The bare kernel is measured in the body of a test: between two tests, pytest's code has evicted it from the CPU caches.
    """
    count = max(50, int(EMPTY_TESTS * scale))
    where = suites.write(
        programs.directory,
        plain=suites.PLAIN.format(count=count),
        bare=suites.BARE.format(count=count, library=programs.bare()),
        fixtures=suites.FIXTURES.format(count=count),
        marked=suites.MARKED.format(count=count),
        one=suites.PLAIN.format(count=1),
        one_marked=suites.MARKED.format(count=1),
    )
    runs = {name: partial(suites.pytest_run, directory) for name, directory in where.items()}
    runs["not recorded"] = partial(suites.pytest_run, where["marked"], "--netns-pcap=off")
    times = suites.measure(runs, max(5, int(15 * scale)))

    def per_test(name: str, other: str) -> float:
        return suites.beyond(times[name], times[other]).clock / count * 1e3

    bare = "a test that calls the bare kernel: C, unshare, lo up"
    note = (
        f"a test: C {per_test('bare', 'plain'):.2f} ms, marked {per_test('marked', 'plain'):.2f} ms beyond an empty one"
    )
    yield Row(3, "marked empty test", bare, per_test("marked", "bare"), "ms more", "<= 1.0", note)
    yield Row(3, "marked empty test, --netns-pcap=off", bare, per_test("not recorded", "bare"), "ms more", "<= 1.0")
    yield Row(3, "of it: two fixtures, of whatever kind", "none", per_test("fixtures", "plain"), "ms more")
    yield Row(3, f"of it: once a run, for each of {count} tests", "", per_test("one_marked", "one"), "ms")


def program(_: Programs, scale: float) -> Iterator[Row]:
    """4: running a program."""
    for held in (0, running.BALLAST):
        times = running.start_program(max(20, int(200 * scale)), held)
        what = "ns.run(true)" + (", 500 MB held" if held else "")
        yield Row(4, what, "subprocess.run", times["ns.run"] / times["subprocess"], goal="<= 1.15")
        yield Row(4, what, "ip netns exec", times["ns.run"] / times["ip netns exec"], goal="<= 0.5")


def start_up(programs: Programs, scale: float) -> Iterator[Row]:
    """5: the plugin's share of pytest's start, compared with an empty plugin.

    Loading either with -p makes pytest read the entry points of all installed packages.
    """
    where = suites.write(programs.directory, never=suites.PLAIN.format(count=1), once=suites.MARKED.format(count=1))
    (where["never"] / "nothing.py").write_text("")
    alone = partial(suites.pytest_run, plugins=False)
    runs = {
        "without": partial(alone, where["never"], "-p", "nothing"),
        "never used": partial(alone, where["never"], "-p", "pytest_netns.plugin"),
        "used once": partial(alone, where["once"], "-p", "pytest_netns.plugin"),
    }
    times = suites.measure(runs, max(5, int(60 * scale)))
    for name, goal in (("never used", "<= 3"), ("used once", "")):
        yield Row(5, f"processor time of pytest, plugin {name}", "without the plugin",
                  suites.beyond(times[name], times["without"]).processor * 1e3, "ms more", goal)  # fmt: skip


def growth(programs: Programs, scale: float) -> Iterator[Row]:
    """6: many namespaces on a bridge, many routers in a row."""
    sizes = [("bridge", 10, 15), ("bridge", 100, 7), ("bridge", 500, 3), ("bridge", 1000, 3)]
    sizes += [("chain", 5, 15), ("chain", 20, 9), ("chain", 50, 5)]
    for picture, count, rounds in sizes:
        if scale < 1 and count >= 500:
            continue
        times, failures = race.run(
            {"ours": programs.ours(picture, count), "C": programs.kernel(picture, count)}, rounds
        )
        yield from _ratios(6, f"{picture} of {count}: set-up + teardown", times, failures, {"C": "<= 1.3"})
        if picture == "bridge" and times.get("ours"):
            kilobytes = [median(times[name].memory) / (count + 1) for name in ("ours", "C")]
            yield Row(6, f"bridge of {count}: memory per namespace, {kilobytes[0]:.0f} KiB", "C",
                      kilobytes[0] / kilobytes[1] if kilobytes[1] > 0 else None)  # fmt: skip


def parallel(programs: Programs, scale: float) -> Iterator[Row]:
    """7: many tests with netns_lan in several processes, compared with the same tests without it."""
    count = max(40, int(LAN_TESTS * scale))
    where = suites.write(programs.directory, base=suites.PLAIN.format(count=count), lan=suites.LAN.format(count=count))
    speeds = {}
    for workers in (1, 2, 4):
        runs = {name: partial(suites.pytest_run, path, "-n", str(workers)) for name, path in where.items()}
        times = suites.measure(runs, 3)
        in_c = median([suites.processes(programs.kernel("lan"), workers, count) for _ in range(3)])
        speeds[workers] = (suites.beyond(times["lan"], times["base"]).clock, in_c)
        if workers > 1:
            ours, theirs = (speeds[1][n] / speeds[workers][n] for n in (0, 1))
            note = f"speed-up over one process: ours {ours:.2f}, C {theirs:.2f}"
            yield Row(7, f"{count} tests, -n {workers}: speed-up", "C", ours / theirs, goal=">= 0.9", note=note)


def traffic(programs: Programs, scale: float) -> Iterator[Row]:
    """8: TCP through the picture's NAT."""
    rates = running.traffic(programs.ip_commands("nat"), max(2, int(7 * scale)))
    yield Row(8, "iperf3 through the NAT, throughput", "the same by hand", rates["ours"] / rates["by hand"], goal="1.0")


def impaired(programs: Programs, scale: float) -> Iterator[Row]:
    """9: accuracy and cost of impaired links, for each available engine."""
    del programs, scale
    for engine in impairment.ENGINES:
        try:
            for each in impairment.measure(engine):
                yield Row(9, f"{engine}: {each.measured}", each.asked, each.value, each.unit, each.goal)
        except UnavailableError as error:
            yield Row(9, engine, "", None, note=f"cannot run: {error.short()}")


def port_forwards(_: Programs, scale: float) -> Iterator[Row]:
    """10: a thousand port forwards, compared with as many simple nft rules."""
    seconds = forwards.race(max(3, int(10 * scale)))
    for ours, other, goal in (
        ("ours, one by one", "nft, one by one", "<= 1.5"),
        ("ours, in one topology", "nft, in one transaction", "<= 1.2"),
    ):
        value = seconds[ours] / seconds[other]
        yield Row(10, f"1,000 port forwards: {ours.removeprefix('ours, ')}", other, value, goal=goal)


Benchmark = Callable[[Programs, float], Iterator[Row]]
BENCHMARKS: tuple[Benchmark, ...] = (
    pair, nat, empty_test, program, start_up, growth, parallel, traffic, impaired, port_forwards,
)  # fmt: skip


def _ratios(
    number: int, what: str, times: dict[str, race.Times], failures: dict[str, str], goals: dict[str, str]
) -> Iterator[Row]:
    if "ours" in failures:
        yield Row(number, what, "", None, note=failures["ours"])
        return
    for name, theirs in times.items():
        if name != "ours":
            yield Row(number, what, name, times["ours"].total / theirs.total, goal=goals.get(name, ""))
    for name, reason in failures.items():
        yield Row(number, what, name, None, note=f"cannot run: {reason}")


def main() -> None:
    """Run the selected benchmarks, print results as they come, and the JSON at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="which benchmarks; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="fewer (0.2) or more (2) rounds")
    parser.add_argument("--json", metavar="FILE", help="write the rows here; default: stdout, after the table")
    parser.add_argument(
        "--before", metavar="DIRECTORY", type=Path, help="compare with another checkout of this project"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the benchmarks compare with programs that need root; run: sudo make bench")
    rows = []
    known = before.BENCHMARKS if arguments.before else BENCHMARKS
    with Programs(arguments.before) as programs:
        for number in arguments.numbers or range(1, len(known) + 1):
            for row in known[number - 1](programs, arguments.scale):
                rows.append(row)
                print(row, flush=True)
    text = json.dumps([asdict(row) for row in rows], indent=2)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text)


main()
