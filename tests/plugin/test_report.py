"""The report of a failed test about its network."""

from __future__ import annotations

import pytest

from tests.support.inner_runs import RunFile

FAILING = """
def test_curl(netns_nat):
    red, outside = netns_nat["red"], netns_nat["outside"]
    outside.start(["python3", "-u", "-m", "http.server", "80"], ready=80)
    red.run(["curl", "-s", "http://192.168.1.3/"])
    red.run(["ping", "-c1", "-W1", "192.168.15.77"], check=False)
    netns_nat["blue"].interfaces["veth-blue"].down()
    red.run(["sh", "-c", "echo sorry >&2; exit 3"])
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> RunFile:
    """Runs a test file in an inner pytest, in the mode of this one."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-mode={mode}", *arguments)

    return run


CHANGING = """
import pytest

@pytest.fixture
def office(netns_nat):
    netns_nat.host.nft("add table ip mine; add chain ip mine input { type filter hook input priority 0; }")
    netns_nat.host.nft("add rule ip mine input tcp dport 22 counter drop")
    netns_nat["blue"].start(["python3", "-m", "http.server", "80"], ready=80)
    netns_nat["blue"].start(["python3", "-m", "http.server", "81"], ready=81)
    netns_nat["red"].sysctl("net.ipv4.neigh.veth-red.retrans_time_ms", 50)
    netns_nat["red"].run("ping -c1 -W1 192.168.15.66", check=False)
    netns_nat.wait_until(lambda: "FAILED" in netns_nat["red"].run("ip neighbour show 192.168.15.66").stdout)
    return netns_nat

def test_it(office):
    red, blue, host = office["red"], office["blue"], office.host
    red.run("curl -s -o /dev/null http://192.168.15.2/")
    blue.run("pkill -TERM -f [h]ttp.server.80")
    red.start(["python3", "-m", "http.server", "82"], ready=82)
    red.run("ping -c1 -W1 192.168.15.77", check=False)
    red.sysctl("net.ipv4.ip_default_ttl", 7)
    blue.enable_forwarding()
    host.forward_port(8080, to="blue:81")
    host.nft("flush chain ip mine input; add rule ip mine input tcp dport 23 drop")
    office["outside"].run(["nft", "add table ip theirs"])
    office["outside"].interfaces["eth0"].add_address("192.168.1.9/24")
    assert 0
"""


def test_changes_since_set_up(run: RunFile) -> None:
    """Interfaces, NAT, settings, nft rules, sockets, processes and neighbours: exactly what the body has changed."""
    result = run(CHANGING, "-vv")
    result.assert_outcomes(failed=1)
    lines = result.stdout.lines
    start = next(number for number, line in enumerate(lines) if "changed since set-up" in line)
    changed = [line for line in lines[start + 1 : start + 30] if line.startswith(("+ ", "- "))]
    assert sorted(line for line in changed if "http.server" not in line) == [
        "+ blue: forwarding",
        "+ host: nft ip mine input: tcp dport 23 drop",
        "+ host: tcp 8080 → blue:81",
        "+ outside: eth0 has 192.168.1.9/24",
        "+ outside: nft ip theirs",
        "+ red: neighbour 192.168.15.77 dev veth-red does not answer",
        "+ red: net.ipv4.ip_default_ttl = 7",
        "- blue: listening tcp 0.0.0.0:80",
        "- host: nft ip mine input: tcp dport 22 counter drop",
    ]
    started, ended = sorted(line for line in changed if "http.server" in line)
    assert ended == "- blue: process python3 -m http.server 80, ended with signal 15 (SIGTERM)"
    assert started.startswith("+ red: process ")
    assert started.endswith("python3 -m http.server 82")


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_short_report(run: RunFile, workers: tuple[str, ...]) -> None:
    """By default: the drawing, changes, listening ports and programs, the output of services, failed commands."""
    result = run(FAILING, *workers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*netns: network when the test failed*",
            "*masquerade 192.168.15.0/24 out eth0",
            "*[[]blue[]] veth-blue  192.168.15.2/24  down*",
            "*netns: changed since set-up*",
            "- blue: veth-blue is up",
            "- blue: route default via 192.168.15.5 dev veth-blue",
            "+ blue: veth-blue is down",
            "*netns: inside the namespaces*",
            "  without carrier:",
            "    veth-blue-br",
            "    192.168.15.77 unknown dev veth-red *",
            "    tcp *:80",
            "    *http.server 80",
            "(-vv shows *",
            "*netns: output of *http.server 80 in outside*",
            '192.168.1.2 - - *"GET / HTTP/1.1" 200 -',
            "*netns: commands that failed*",
            "    sorry",
        ]
    )
    result.stdout.no_fnmatch_line("*nft ruleset*")


def test_whole_report(run: RunFile) -> None:
    """With -vv also counters, routes, neighbours, the nft rules, and NAT's tracked connections."""
    result = run(FAILING, "-vv")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*netns: inside the namespaces*",
            "    eth0 (veth, up) 192.168.1.2/24,*received [1-9]* packets*sent [1-9]*",
            "    192.168.15.0/24 dev v-net-0",
            "    192.168.1.3 *:* dev eth0 *",
            "  nft ruleset:",
            "*masquerade*",
            "  tracked connections:",
            "    tcp * 192.168.15.1:* > 192.168.1.3:80, replies 192.168.1.3:80 > 192.168.1.2:*",
        ]
    )


def test_passing_test_has_none(run: RunFile) -> None:
    """The network is read and shown only after a failure."""
    result = run("def test_fine(netns_pair): pass\ndef test_unrelated(): assert 0\n", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*netns: network*")


def test_failing_setup_and_closed_lab(run: RunFile) -> None:
    """A failing fixture is reported with the network; for a lab that the test has closed, the failed commands are shown."""
    result = run(
        """
import pytest

@pytest.fixture
def broken(netns_pair):
    raise RuntimeError("broken")

def test_setup(broken): pass

def test_closed(netns_pair):
    netns_pair["red"].run(["ping", "-c1", "-W1", "192.168.15.2"])
    netns_pair.close()
    assert 0
"""
    )
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: broken", "*netns: network when the test failed*", "*192.168.15.1/24*"])
    result.stdout.no_fnmatch_line("*cannot be shown*")


BROKEN = """
import os
import pytest
from pytest_netns.kernel.programs import supervision

POLITE = ["sh", "-c", "trap 'exit 0' TERM; echo here; while :; do sleep 0.01; done"]

@pytest.fixture
def pair(netns_pair):
    netns_pair["red"].start(POLITE)
    netns_pair["blue"].start(POLITE)
    return netns_pair

@pytest.mark.xfail(strict=True)
def test_expected(pair):
    pair["red"].programs.network.netlink.close()
    assert 0

def test_netlink_closed(pair):
    pair["red"].programs.network.netlink.close()
    assert 0

def test_init_killed(pair):
    os.kill(pair["red"].programs.view.init.pid, 9)
    pair["red"].programs.services[0].wait(20)
    assert 0

def test_lab_closed(pair):
    pair.close()
    assert 0

def test_supervisor_killed(pair):
    os.kill(supervision.supervisor().pid, 9)
    assert 0
"""


def test_never_a_reason_for_failure(run: RunFile) -> None:
    """Whatever the test has broken, the report shows what it can and names what it cannot, and the test's result is unchanged."""
    result = run(BROKEN, "--netns-pause", "-W", "ignore::pytest_netns.plugin.ServiceDiedWarning")
    result.assert_outcomes(failed=4, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_netlink_closed _*",
            "*netns: inside the namespaces*",
            "[[]red[]]",
            "    interfaces: *Error: cannot * namespace 'red'*",
            "[[]blue[]]",
            "*while :; do sleep*",
            "*_ test_init_killed _*",
            "*netns: network when the test failed*",
            "- red: process sh -c *, ended with signal 9 (SIGKILL)",
            "*_ test_lab_closed _*",
            "*netns: output of sh -c *",
            "here",
        ]
    )
    result.stdout.no_fnmatch_line("*cannot be shown*")


def test_output_that_was_asked_for(run: RunFile) -> None:
    """Output with `report=True` is shown if the test fails, and not otherwise."""
    result = run(
        """
import pytest

@pytest.mark.parametrize("fails", [True, False])
def test_it(netns, fails):
    red = netns.add_namespace("red")
    red.run("echo version 7; echo careful >&2", shell=True, report=True)
    red.run(["echo", "not shown"])
    assert not fails
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*netns: output of echo version 7; echo careful >&2 in red*", "version 7", "careful"])
    result.stdout.no_fnmatch_line("not shown")
    assert result.stdout.str().count("netns: output of") == 1


def test_bounded_time(run: RunFile) -> None:
    """Sections that exceed the time limit are omitted, with a note; the test fails as usual."""
    result = run(
        """
from pytest_netns.explaining import observing

def test_it(netns_pair, monkeypatch):
    netns_pair["red"].run(["ping", "-c1", "-W2", "192.168.15.2"])
    monkeypatch.setattr(observing, "TIME_LIMIT", 0)
    netns_pair["blue"].interfaces["veth-blue"].down()
    assert 0
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "    *interfaces, processes, listening sockets, neighbours, settings, nft ruleset: omitted, the time limit was reached"
        ]
    )
    result.stdout.no_fnmatch_line("*changed since set-up*")


def test_lab_of_wider_scope(run: RunFile) -> None:
    """A failing test that uses a module-scoped lab shows that lab, with this test's changes."""
    result = run(
        """
import pytest

@pytest.fixture(scope="module")
def office(netns_factory):
    with netns_factory.lab("lan") as lab:
        yield lab

def test_first(office):
    office["red"].interfaces["veth-red"].add_address("10.9.9.9/24")

def test_second(office):
    office["blue"].interfaces["veth-blue"].add_address("10.8.8.8/24")
    assert 0
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*veth-red  192.168.15.1/24  10.9.9.9/24*", "+ blue: veth-blue has 10.8.8.8/24"])
    result.stdout.no_fnmatch_line("*+ red: veth-red has*")


def test_parameter_of_wider_scope(run: RunFile) -> None:
    """So does one whose `netns` is a module-scoped parameter; a test that does not use it does not show it."""
    result = run(
        """
import pytest

@pytest.mark.parametrize("netns", ["pair", "lan"], indirect=True, scope="module")
def test_of_the_module(netns):
    netns["red"].interfaces["veth-red"].add_address("10.9.9.9/24")
    assert 0

def test_afterwards(netns):
    netns.add_namespace("green")
    assert 0
"""
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*test_of_the_module?pair? _*",
            "*veth-red  192.168.15.1/24  10.9.9.9/24*",
            "+ red: veth-red has 10.9.9.9/24",
            "*test_of_the_module?lan? _*",
            "*v-net-0*",
            "+ red: veth-red has 10.9.9.9/24",
            "*test_afterwards _*",
        ]
    )
    text = str(result.stdout).partition("test_afterwards _")[2]
    assert "green" in text
    assert "veth-red" not in text


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_names_that_are_not_utf_8(run: RunFile, workers: tuple[str, ...]) -> None:
    """A file's or interface's name may be any bytes; the report and xdist's messages can carry them, and no test is lost."""
    result = run(
        r"""
import os, sys

def test_file(netns):
    red = netns.add_namespace("red")
    name = os.fsdecode(b"/tmp/no\xff-such-file")
    red.start([sys.executable, "-c", "import time; time.sleep(600)", name])
    red.run(["cat", name])

def test_interface(netns_pair):
    red = netns_pair["red"]
    red.run(["ip", "link", "add", b"\xff\xfe", "type", "bridge"])
    red.run(["ip", "link", "set", b"\xff\xfe", "up"])
    assert 0

def test_other(netns_pair):
    netns_pair["red"].run("ping -c1 blue")
""",
        *workers,
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines([r"*cannot complete command in namespace 'red': cat '/tmp/no\xff-such-file'*"])
    result.stdout.fnmatch_lines([r"*\xff\xfe*bridge*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_the_cause_is_shown(run: RunFile) -> None:
    """Obstacles to packets are shown without -vv, whatever has caused them and when: MTU, qdiscs, ports, routes, rules."""
    result = run(
        """
import pytest

@pytest.fixture
def path(netns_lan):
    host, red = netns_lan.host, netns_lan["red"]
    host.nft("add table inet fw; add chain inet fw f { type filter hook forward priority 0; policy drop; }")
    host.interfaces["veth-blue-br"].mtu = 1400
    red.run("tc qdisc add dev veth-red root tbf rate 8kbit burst 1600 latency 50ms")
    host.run("bridge link set dev veth-blue-br isolated on")
    host.run("ip route add blackhole 192.168.15.2/32")
    red.run("ip rule add to 192.168.15.2 blackhole")
    netns_lan["blue"].run("ip link set veth-blue arp off")

def test_it(path):
    assert 0
"""
    )
    result.stdout.fnmatch_lines(
        [
            "[[]host[]]",
            "│  blackhole 192.168.15.2/32",
            "*veth-red-br ─* [[]red[]] veth-red  192.168.15.1/24  qdisc tbf *rule 32765: from all to 192.168.15.2/32 blackhole",
            "*veth-blue-br  MTU 1400  isolated ─* [[]blue[]] veth-blue  192.168.15.2/24  ARP off *",
            "*nft rules that drop:",
            "*inet fw f: type filter hook forward *policy drop;",
        ]
    )
    result.stdout.no_fnmatch_line("*changed since set-up*")


def test_changes_by_programs_are_shown(run: RunFile) -> None:
    """Traffic control and interfaces by programs are changes if the test makes them, and not otherwise."""
    result = run(
        """
import pytest

@pytest.fixture
def by_program(netns):
    red = netns.add_namespace("red")
    red.run("ip link add eth0 type veth peer name eth1")
    red.run("ip addr add 10.0.0.1/24 dev eth0")
    red.run("ip link set eth0 up")
    return red

def test_nothing(by_program):
    assert 0

def test_throttled(by_program):
    by_program.run("tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 latency 50ms")
    by_program.run("ip route add unreachable 10.9.0.0/16")
    assert 0
"""
    )
    assert result.stdout.str().count("changed since set-up") == 1
    result.stdout.fnmatch_lines(
        ["*changed since set-up*", "+ red: eth0 qdisc tbf", "+ red: route unreachable 10.9.0.0/16"]
    )


@pytest.mark.parametrize("passes", [True, False])
def test_a_timeout_in_the_middle_of_the_report(run: RunFile, passes: bool) -> None:
    """An exception from a signal handler during the report, such as pytest-timeout's, loses neither the test nor the run."""
    result = run(
        f"""
import os, signal
import pytest

class Late:
    def notes(self):
        os.kill(os.getpid(), signal.SIGALRM)
        return []

def test_slow(netns_pair, monkeypatch):
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("Timeout >9.0s"))
    netns_pair.notes.add(Late())
    monkeypatch.setattr(type(netns_pair.captures.recording), "in_order", lambda _: Late().notes())
    assert {passes}

def test_other(netns_pair):
    pass
""",
        "--netns-pcap=all",
    )
    result.assert_outcomes(passed=1 + passes, failed=1 - passes)
    if not passes:
        result.stdout.fnmatch_lines(["the rest cannot be shown: Failed: Timeout >9.0s"])
