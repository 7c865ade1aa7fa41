"""The packets of a test: captured from the start, kept if it failed, readable by other programs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_netns import Lab, NotReadyError
from pytest_netns.lab import factory
from pytest_netns.packets import capture, pcapng
from pytest_netns.plugin import packet_files
from pytest_netns.topology import PICTURES
from tests.support.inner_runs import RunFile

TRAFFIC = """
import pytest

def test_bad(netns_nat):
    netns_nat["outside"].start(["python3", "-m", "http.server", "80"], ready=80)
    netns_nat["red"].run(["curl", "-s", "http://192.168.1.3/"])
    assert 0

def test_good(netns_pair):
    netns_pair["red"].run(["ping", "-c1", "-W2", "192.168.15.2"])
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> RunFile:
    """Runs a test file in an inner pytest, in the mode of this one."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-mode={mode}", *arguments)

    return run


def tshark(path: Path, *arguments: str) -> list[str]:
    """tshark's output for a file."""
    return subprocess.run(
        ["tshark", "-r", path, *arguments], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_failed_test_keeps_its_packets(run: RunFile, pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """By default the packets of failed tests are kept, in a file that the report names, and shown one line each."""
    run(TRAFFIC, *workers).assert_outcomes(failed=1, passed=1)
    result = run(TRAFFIC, *workers)
    result.stdout.fnmatch_lines(
        [
            "*netns: packets*",
            "*tcp 192.168.15.1:* > 192.168.1.3:80 [[]FA[]] *(red/veth-red → host/veth-red-br*",
            "*tcp 192.168.1.2:* > 192.168.1.3:80 [[]FA[]] *(host/eth0 → outside/eth0)",
            "all * packets are in .netns-pcap/test_it.py.test_bad.pcapng",
        ]
    )
    assert [path.name for path in (pytester.path / ".netns-pcap").iterdir()] == ["test_it.py.test_bad.pcapng"]


def test_tshark_reads_the_file(run: RunFile, pytester: pytest.Pytester) -> None:
    """tshark shows the interfaces by name, the first packet of the connection on its way through the NAT, and ascending times."""
    run(TRAFFIC)
    path = pytester.path / ".netns-pcap" / "test_it.py.test_bad.pcapng"
    fields = ("-T", "fields", "-e", "frame.interface_name", "-e", "ip.src", "-e", "frame.time_relative")
    seen = [line.split("\t") for line in tshark(path, "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0", *fields)]
    assert [(name, source) for name, source, _ in seen] == [
        ("red/veth-red", "192.168.15.1"),
        ("host/veth-red-br", "192.168.15.1"),
        ("host/v-net-0", "192.168.15.1"),
        ("host/eth0", "192.168.1.2"),
        ("outside/eth0", "192.168.1.2"),
    ]
    times = [float(line) for line in tshark(path, "-T", "fields", "-e", "frame.time_relative")]
    assert times == sorted(times)
    # tshark reads a damaged file up to the mistake, with exit status 0: so its messages matter.
    done = subprocess.run(["tshark", "-r", path, "-Y", "_ws.malformed"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "malformed" not in (done.stdout + done.stderr).lower()


def test_all_and_off(run: RunFile, pytester: pytest.Pytester) -> None:
    """`all` also keeps the packets of passing tests, `off` keeps none and shows nothing; also in the ini file."""
    directory = pytester.path / ".netns-pcap"
    run(TRAFFIC, "--netns-pcap=off").stdout.no_fnmatch_line("*netns: packets*")
    assert not directory.exists()
    pytester.makeini("[pytest]\nnetns_pcap = all\n")
    run(TRAFFIC)
    assert len(list(directory.iterdir())) == 2


def test_passing_removes_the_old_file(run: RunFile, pytester: pytest.Pytester) -> None:
    """A test that now passes has no file of an earlier failure."""
    run(TRAFFIC)
    run(TRAFFIC.replace("assert 0", "assert 1"))
    assert not list((pytester.path / ".netns-pcap").iterdir())


def test_packets_are_let_go_of_after_the_test(run: RunFile) -> None:
    """pytest keeps every test to the end of the run; its packets and its lab must be freed, whatever the result."""
    result = run(
        """
import gc, weakref
import pytest

recordings, labs = [], []

@pytest.fixture
def fails_later():
    yield
    assert 0

@pytest.mark.netns
@pytest.mark.parametrize("passes", [True, False])
def test_some(netns, passes, fails_later):
    netns.host.run("ping -c1 127.0.0.1")
    assert len(netns.captures.recording) == 2
    recordings.append(weakref.ref(netns.captures.recording))
    labs.append(weakref.ref(netns))
    assert passes

def test_after():
    assert [each() for each in recordings] == [None, None]
    gc.collect()
    assert labs[0]() is None  # of the other, pytest keeps the traceback
"""
    )
    result.assert_outcomes(passed=2, failed=1, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_some?True?*", "all 2 packets are in *"])


def test_recording_never_fails_a_test(run: RunFile) -> None:
    """If packets may not be captured, or there are too many namespaces, the test still runs and the report says so."""
    result = run(
        """
import pytest
from pytest_netns import KernelError
from pytest_netns.packets import capture

@pytest.fixture
def forbidden(monkeypatch):
    def refuse(*arguments, **how):
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr(capture, "CaptureSocket", refuse)

def test_forbidden(forbidden, netns_pair):
    netns_pair["red"].run(["ping", "-c1", "-W2", "192.168.15.2"])
    with pytest.raises(KernelError, match="cannot capture packets in namespace 'red'"):
        with netns_pair.capture():
            pass
    assert 0

@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(capture, "MOST_BY_ITSELF", 1)

def test_few(few, netns_pair):
    assert 0
"""
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "all 0 packets are in *test_forbidden.pcapng",
            "those of blue could not be recorded: *Operation not permitted",
            "only those of the first 1 namespaces were recorded",
        ]
    )


def test_long_names_and_odd_parameters(run: RunFile, pytester: pytest.Pytester) -> None:
    """Whatever a test's name, its file can be written, in the directory, and no two share one."""
    run(
        """
import pytest
names = ["../../a b/ü", "../../a b/ö", "x" * 300, "/a", ".a", "a<b", "a>b", "a b", "\\ud800"]
@pytest.mark.parametrize("x", names)
def test_it(netns_pair, x): assert 0
"""
    )
    names = [path.name for path in (pytester.path / ".netns-pcap").iterdir()]
    assert len(names) == 9
    assert not list(pytester.path.parent.glob("*.pcapng"))


@pytest.mark.parametrize(
    "ids",
    [
        ("a/test_b.py::test_c", "a.test_b.py::test_c"),
        ("test_a.py::test_b[/a]", "test_a.py::test_b[.a]"),
        ("test_a.py::py::x", "test_a/py.py::x"),
        ("test_a.py::test_ü", "test_a.py::test_ö"),
    ],
)
def test_like_names_are_different_files(ids: tuple[str, str]) -> None:
    """Characters that are not allowed in file names do not make two tests share a file."""
    assert packet_files.file_name(ids[0]) != packet_files.file_name(ids[1])
    assert packet_files.file_name("a/test_b.py::test_c[x-1.5]") == "a.test_b.py.test_c[x-1.5].pcapng"


def test_a_passing_test_leaves_the_file_of_another(run: RunFile, pytester: pytest.Pytester) -> None:
    """The file that a report names exists after the run."""
    run(
        """
import pytest
@pytest.mark.parametrize("path", ["/a", ".a"])
def test_path(netns_pair, path):
    assert path != "/a"
"""
    )
    assert len(list((pytester.path / ".netns-pcap").iterdir())) == 1


def test_files_are_private(run: RunFile, pytester: pytest.Pytester, tmp_path: Path) -> None:
    """Packets may contain passwords: only the owner can read them, and symbolic links are not followed."""
    place = pytester.path / ".netns-pcap"
    run(TRAFFIC)
    path = place / "test_it.py.test_bad.pcapng"
    assert (path.stat().st_mode & 0o777, place.stat().st_mode & 0o777) == (0o600, 0o700)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path.unlink()
    path.symlink_to(precious)
    run(TRAFFIC)
    assert not path.is_symlink()
    path.unlink()
    place.rmdir()
    place.symlink_to(tmp_path)
    run(TRAFFIC).stdout.fnmatch_lines(["*the packets cannot be kept: *"])
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".pcapng"] == []
    assert precious.read_text() == "mine"


def test_the_first_packet_is_captured(netns: Lab) -> None:
    """Packets sent right after an interface is created are captured: the neighbour discovery of a veth that comes up."""
    with netns.capture() as packets:
        red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
        netns.add_veth(red, blue, addresses=("10.0.0.1/24", "10.0.0.2/24"))
        red.run(["ping", "-c1", "-W2", "10.0.0.2"])
    pings = [(packet.namespace, packet.sent) for packet in packets if packet.headers.detail == "echo request"]
    assert pings == [("red", True), ("blue", False)]
    arps = [packet for packet in packets if packet.protocol == "arp"]
    assert str(arps[0]) == "arp who has 10.0.0.2? tell 10.0.0.1"


def test_assert_on_packets(netns_pair: Lab) -> None:
    """A capture is a growing sequence of packets: addresses, ports, flags and payload can be asserted."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    server = blue.socket()
    server.bind(("192.168.15.2", 8080))
    server.listen()
    with netns_pair.capture() as packets:
        client = red.socket()
        client.connect(("192.168.15.2", 8080))
        client.sendall(b"hello")
        carried = packets.wait(lambda packet: packet.payload)
        assert (carried.payload, carried.destination, carried.destination_port) == (b"hello", "192.168.15.2", 8080)
        client.close()
        packets.wait(lambda packet: "F" in packet.flags and packet.namespace == "blue")
    before = len(packets)
    assert [packet.flags for packet in packets if packet.namespace == "blue" and packet.protocol == "tcp"][:3] == [
        "S",
        "SA",
        "A",
    ]
    red.run(["ping", "-c1", "-W2", "192.168.15.2"])
    assert len(packets) == before
    server.close()


def test_wait_says_what_was_there(netns_pair: Lab) -> None:
    """A packet that does not arrive is an error that shows those that did."""
    with netns_pair.capture() as packets:
        netns_pair["red"].run(["ping", "-c1", "-W2", "192.168.15.2"])
        with pytest.raises(NotReadyError, match="echo request"):
            packets.wait(lambda packet: packet.protocol == "tcp", timeout=0.05)


def test_size_is_bounded(netns_pair: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are more packets than the limit, the last ones are kept, and the others counted."""
    monkeypatch.setattr("pytest_netns.kernel.spaces.capturing.KEPT_BYTES", 10_000)
    red, blue = netns_pair["red"], netns_pair["blue"]
    with netns_pair.capture() as packets, red.socket(type=2) as sender, blue.socket(type=2) as receiver:
        receiver.bind(("192.168.15.2", 9))
        for n in range(50):
            sender.sendto(n.to_bytes(2, "big") * 500, ("192.168.15.2", 9))
        packets.wait(lambda packet: packet.namespace == "blue" and packet.payload[:2] == b"\0\x31")
    assert sum(len(packet.data) for packet in packets) <= 20_000
    assert [packet for packet in packets if packet.protocol == "udp"][-1].payload[:2] == b"\0\x31"
    assert packets.dropped >= 60


FLOOD = """
import socket
sender = socket.socket(type=socket.SOCK_DGRAM)
for n in range({number}):
    sender.sendto(n.to_bytes(4, "big"), ("192.168.15.2", 9))
"""


def test_memory_is_bounded_as_python_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the packets, a recording takes no more memory than its limit, and neither do its last packets."""
    limit = 1 << 20
    monkeypatch.setattr(capture, "MOST_BYTES_BY_ITSELF", limit)
    with factory.open_lab("test", recorded=True) as lab:
        lab.build(PICTURES["pair"])
        recording = lab.captures.recording
        assert recording is not None
        receiver = lab["blue"].socket(type=socket.SOCK_DGRAM)
        receiver.bind(("192.168.15.2", 9))
        tracemalloc.start()
        try:
            with lab["red"].socket(type=socket.SOCK_DGRAM) as sender:
                for _ in range(400):  # in parts, so that even a small buffer of the kernel loses none
                    for n in range(50):
                        sender.sendto(n.to_bytes(4, "big"), ("192.168.15.2", 9))
                    last = recording.last(100)
            used, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        receiver.close()
        assert len(last) == 100
        assert recording.kept + recording.dropped > 40_000
        assert 2_000 < recording.kept < 15_000
        assert used < 2 * limit
        assert peak < 3 * limit


def test_a_reading_ends(netns_pair: Lab) -> None:
    """Reading a capture ends, even if packets arrive faster than they can be read."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    with netns_pair.capture() as packets, blue.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("192.168.15.2", 9))
        senders = [red.popen([sys.executable, "-c", FLOOD.format(number=10**9)]) for _ in range(2)]
        packets.wait(lambda packet: packet.protocol == "udp")
        for _ in range(3):
            assert packets.last(10)
        assert all(sender.poll() is None for sender in senders), "they still sent all the time"
        for sender in senders:
            sender.kill()


def test_an_odd_interface_is_no_end(netns_pair: Lab) -> None:
    """Packets of an interface whose name is not UTF-8 cannot be captured; this is reported, and the others are captured."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    with netns_pair.capture() as packets:
        odd = os.fsdecode(b"\xff\xfe")
        for arguments in (("down",), ("name", odd), ("up",)):
            red.run(["ip", "link", "set", odd if arguments == ("up",) else "veth-red", *arguments])
        blue.run("ping -c1 -W1 192.168.15.9", check=False)
        packets.wait(lambda packet: packet.namespace == "blue" and packet.sent and packet.protocol == "arp")
        netns_pair.wait_until(lambda: (len(packets), "not UTF-8 were not kept" in packets.problem)[1])
    assert packets.dropped


def test_vlan_tags(netns_pair: Lab) -> None:
    """A frame that arrives with an 802.1Q tag is captured with it, as sent."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    addresses = bytes.fromhex((blue.interfaces["veth-blue"].mac + red.interfaces["veth-red"].mac).replace(":", ""))
    frame = addresses + bytes.fromhex("8100202a88b5") + b"hello".ljust(60, b"\0")
    with netns_pair.capture() as packets, red.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("veth-red", 0))
        sender.send(frame)
        received = packets.wait(lambda packet: packet.namespace == "blue" and b"hello" in packet.data)
    assert received.data == frame
    assert received.vlan == 42
    sent = next(packet for packet in packets if packet.namespace == "red" and b"hello" in packet.data)
    assert (sent.data, sent.vlan) == (frame, 42)


def test_a_capture_is_read_on(netns_pair: Lab) -> None:
    """Indexing, slicing and iterating agree while packets arrive; packets keep their positions."""
    with netns_pair.capture() as packets:
        netns_pair["red"].run("ping -c1 -W2 192.168.15.2")
        packets.wait(lambda packet: packet.headers.detail == "echo reply" and packet.namespace == "red")
        before = list(packets)
        assert packets[0] is before[0]
        netns_pair["red"].run("ping -c1 -W2 192.168.15.2")
    assert packets[: len(before)] == before
    assert len(packets) > len(before)
    assert [packet.time for packet in packets] == sorted(packet.time for packet in packets)


def test_packets_without_ethernet_header(netns_pair: Lab, tmp_path: Path) -> None:
    """Packets of an interface without Ethernet headers, such as a tunnel, are decoded, and tshark reads them."""
    with netns_pair.capture() as packets:
        netns_pair["red"].run(["ping", "-c1", "-W2", "192.168.15.2"])
    bare = [
        replace(packet, interface="tun0", ethernet=False, data=packet.data[14:])
        for packet in packets
        if packet.protocol == "icmp"
    ]
    assert str(bare[0]) == "icmp 192.168.15.1 > 192.168.15.2 echo request"
    path = tmp_path / "t.pcapng"
    path.write_bytes(pcapng.write(bare))
    assert tshark(path, "-Y", "icmp", "-T", "fields", "-e", "frame.interface_name")[0] == "red/tun0"


def test_no_thread_stays(netns: Lab) -> None:
    """Once no capture is open its threads end soon."""
    with Lab() as lab:
        lab.add_namespace("red")
        with lab.capture():
            assert any(thread.name == "netns-capture" for thread in threading.enumerate())
        for thread in threading.enumerate():
            if thread.name == "netns-capture":
                thread.join(10)
                assert not thread.is_alive()
