"""Under a debugger that attaches to every new Python, like those of IDEs, programs run and breakpoints stop."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import NO_CACHE

SUITE = """
def test_it(netns_pair):
    red = netns_pair["red"]
    red.interfaces["veth-red"].impair(delay="1ms")
    red.run("ping -c1 192.168.15.2")
    with red:
        place = "inside"  # the breakpoint
    assert red.call(int) == 0
    assert "red" in red.run("hostname").stdout
"""
LINE = 7
PATIENCE = 60  # seconds


class Client:
    """An IDE's side of the Debug Adapter Protocol."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rwb")
        self._number = 0

    def request(self, command: str, **arguments: Any) -> None:
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(message).encode()
        self._stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self._stream.flush()

    def close(self) -> None:
        """Disconnect; the debugger's own process ends with its last client."""
        self.request("disconnect")
        self._stream.close()

    def wait_for(self, kind: str, name: str) -> dict[str, Any]:
        """Read until a message of a kind arrives: an event, or the response to a command."""
        while True:
            message = self._read()
            if message["type"] == kind and message.get("event" if kind == "event" else "command") == name:
                assert message.get("success", True), message
                return message
            assert message.get("event") not in ("debugpyAttach",), "the debugger has attached to a helper process"

    def _read(self) -> dict[str, Any]:
        length = 0
        while (line := self._stream.readline().strip()) or not length:
            assert line or length, "the debugger has closed the connection"
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return dict(json.loads(self._stream.read(length)))


def connect(port: int) -> socket.socket:
    """A connection to the debugger, which takes a moment to listen."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the debugger does not listen"
            pause.wait(0.05)


def test_debugpy(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """pytest under debugpy, started as by VS Code: the debugger attaches to no helper, a breakpoint in `with ns:` stops, the test passes."""
    pytest.importorskip("debugpy")
    mode = request.config.getoption("netns_mode") or "auto"
    if mode == "rootless" or os.geteuid() != 0:
        pytest.skip("needs root: a debugger's own threads keep the process from becoming rootless")
    (tmp_path / "test_it.py").write_text(SUITE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    argv = [sys.executable, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client"]
    argv += [
        "-m",
        "pytest",
        "-q",
        NO_CACHE,
        "--netns-mode=root",
        "--netns-unavailable=fail",
        "--netns-impairments=userspace",
        str(tmp_path),
    ]
    output = tmp_path / "output"
    with output.open("w") as file, subprocess.Popen(argv, stdout=file, stderr=file, cwd=tmp_path) as process:
        try:
            with connect(port) as connection:
                client = Client(connection)
                client.request("initialize", adapterID="debugpy", clientID="test")
                client.request("attach", justMyCode=False, subProcess=True)
                client.wait_for("event", "initialized")
                source = {"path": str(tmp_path / "test_it.py")}
                client.request("setBreakpoints", source=source, breakpoints=[{"line": LINE}])
                client.wait_for("response", "setBreakpoints")
                client.request("configurationDone")
                stopped = client.wait_for("event", "stopped")["body"]
                assert stopped["reason"] == "breakpoint"
                client.request("continue", threadId=stopped["threadId"])
                client.wait_for("event", "terminated")
                client.close()
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert "1 passed" in output.read_text()
