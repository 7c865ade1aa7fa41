"""Machines that hang and machines that lose power, as seen by their peers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from pytest_netns import Lab, Namespace, Service
from pytest_netns.kernel.system import process_table

# Answers each line on each connection.
SERVER = """
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
Server(("0.0.0.0", 7000), Handler).serve_forever()
"""
SOON = 0.3  # seconds within which a peer would have answered


@pytest.fixture
def server(netns_lan: Lab) -> Service:
    """A server in blue."""
    return netns_lan["blue"].start([sys.executable, "-I", "-S", "-c", SERVER], ready=7000)


def connect(lab: Lab) -> socket.socket:
    """A connection from red to the server, with a first answer."""
    client = lab["red"].create_connection(("192.168.15.2", 7000), 10)
    client.sendall(b"hello\n")
    assert client.recv(100) == b"HELLO\n"
    return client


def state(pid: int) -> str:
    found = process_table.stat(pid)
    return "" if found is None else found.state


def test_freeze_and_thaw(netns_lan: Lab, server: Service) -> None:
    """All processes stop, including those of Python code inside; connections stay, and continue after `thaw`."""
    blue = netns_lan["blue"]
    with blue:
        by_python = subprocess.Popen(["sleep", "1000"])
    orphan = int(blue.run("sleep 1000 >/dev/null 2>&1 & echo $!", shell=True).stdout)
    assert orphan
    with connect(netns_lan) as client:
        blue.freeze()
        assert state(server.pid) == state(by_python.pid) == "T"
        client.settimeout(SOON)
        client.sendall(b"are you there\n")
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert blue.run(["ps", "-o", "state=", "-p", str(orphan)]).stdout.strip() == "T"
        blue.thaw()
        client.settimeout(10)
        assert client.recv(100) == b"ARE YOU THERE\n"
    assert state(by_python.pid) != "T"
    by_python.kill()
    by_python.wait()


def test_freeze_is_a_context_manager_and_is_healed(netns_lan: Lab, server: Service) -> None:
    """The end of the block and `lab.heal` resume all; drawings name the frozen namespace; the plugin keeps working."""
    blue = netns_lan["blue"]
    with blue.freeze():
        assert state(server.pid) == "T"
        assert [(note.namespace, note.text) for note in netns_lan.notes.collect() if "frozen" in note.text] == [
            ("blue", "frozen")
        ]
        assert blue.run(["echo", "works"]).stdout == "works\n"
    assert state(server.pid) != "T"
    blue.freeze()
    blue.freeze()
    netns_lan.heal()
    assert state(server.pid) != "T"


def test_a_frozen_lab_closes() -> None:
    """Stopped processes end with their lab, within the usual time."""
    with Lab() as lab:
        program = lab.add_namespace("red").popen(["sleep", "1000"])
        lab["red"].freeze()
    assert program.returncode in (-signal.SIGTERM, -signal.SIGKILL)


def test_crash_is_silent(netns_lan: Lab, server: Service) -> None:
    """All processes are killed, and the peer of an open connection gets neither FIN nor reset, now or later."""
    blue, red = netns_lan["blue"], netns_lan["red"]
    with connect(netns_lan) as client, netns_lan.capture() as packets:
        with blue.crash():
            assert server.returncode == -signal.SIGKILL
            assert not server.died
            client.settimeout(SOON)
            client.sendall(b"are you there\n")
            with pytest.raises(TimeoutError):
                client.recv(100)
            assert red.probe("192.168.15.2:7000", timeout=SOON) == "timeout"
        received = [packet for packet in packets if packet.namespace == "red" and not packet.sent]
        assert not [packet for packet in received if packet.protocol == "tcp" and set(packet.flags) & set("FR")]
        # The machine is up again and does not know the connection: now it may send a reset.
        client.settimeout(20)
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    server.restart()
    with connect(netns_lan):
        pass


def test_crash_is_healed(netns_lan: Lab, server: Service) -> None:
    """`lab.heal` starts a crashed machine: with its addresses and routes, without programs."""
    blue = netns_lan["blue"]
    before = blue.routes()
    blue.crash()
    netns_lan.heal()
    assert blue.routes() == before
    assert netns_lan["red"].probe("192.168.15.2:7000") == "refused"
    assert [each for each in blue.programs.processes if each.poll() is None] == []


def test_the_test_s_own_process_is_never_hit(netns_lan: Lab) -> None:
    """A test inside a namespace can freeze and crash it."""
    blue: Namespace = netns_lan["blue"]
    with blue:
        with blue.freeze():
            assert os.getpid()
        with blue.crash():
            assert os.getpid()
