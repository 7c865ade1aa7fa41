"""Services: when they are ready, their output, their exit; and waiting for listening sockets."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import CommandTimeout, InvalidTopologyError, Lab, Namespace, NetnsError, NotReadyError, Service
from pytest_netns.running.output import OUTPUT_LIMIT
from tests.support.processes import eventually

LISTEN = """
import signal, socket, sys
protocol, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind((host, port))
if protocol == "tcp":
    listener.listen()
print("up", flush=True)
signal.pause()
"""


@pytest.fixture
def red() -> Iterator[Namespace]:
    with Lab("services") as lab:
        yield lab.add_namespace("red")


def python(script: str, *arguments: object) -> list[str]:
    """argv of a Python script."""
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(script), *map(str, arguments)]


# -- ready -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_ready_by_port(red: Namespace, protocol: str, host: str) -> None:
    """A service is ready once it listens on the port itself, TCP or UDP, IPv4 or IPv6."""
    service = red.start(python(LISTEN, protocol, host, 5000), ready=f"{protocol}/5000")
    red.wait_listening(5000, protocol)
    assert service.poll() is None
    assert service.stop() == -signal.SIGTERM


def test_a_port_of_the_other_protocol_is_not_it(red: Namespace) -> None:
    """A TCP port does not count for a UDP one."""
    with pytest.raises(NotReadyError, match="nothing listens on udp port 5000"):
        red.start(python(LISTEN, "tcp", "127.0.0.1", 5000), ready="udp/5000", timeout=0.5)


def test_another_process_on_the_port(red: Namespace) -> None:
    """A port of another process of the namespace does not count; the error names that process."""
    other = red.start(python(LISTEN, "tcp", "127.0.0.1", 5000), ready=5000)
    with pytest.raises(NotReadyError, match=rf"held by another process, PID {other.pid} \(python"):
        red.start(["sleep", "1000"], ready=5000, timeout=0.3)


def test_another_namespace_on_the_port(red: Namespace) -> None:
    """The same port in another namespace, or outside, does not count, for start and for wait_listening."""
    blue = red._lab.add_namespace("blue")
    blue.start(python(LISTEN, "tcp", "0.0.0.0", 5000), ready=5000)
    with socket.create_server(("127.0.0.1", 0)) as outside:
        for port in (5000, outside.getsockname()[1]):
            with pytest.raises(NotReadyError, match=f"nothing listens on tcp port {port}"):
                red.start(["sleep", "1000"], ready=port, timeout=0.2)
            with pytest.raises(NotReadyError, match="ports that are listened on: none"):
                red.wait_listening(port, timeout=0.1)


def test_ready_by_a_child_s_port(red: Namespace) -> None:
    """The listening socket can belong to a child of the program."""
    service = red.start(["sh", "-c", '"$@"; exit', "sh", *python(LISTEN, "tcp", "127.0.0.1", 5000)], ready=5000)
    assert service.poll() is None


def test_ready_by_a_daemon_s_port(red: Namespace, tmp_path: Path) -> None:
    """nginx and dnsmasq put themselves into the background: their daemons' ports count, and they have not died."""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"""
        user root; daemon on; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;
        events {{}}
        http {{
            access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;
            fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            server {{ listen 80; return 200 "red\\n"; }}
        }}
        """
    )
    nginx = red.start(["nginx", "-e", tmp_path / "error.log", "-c", configuration], ready=80)
    assert red.run("curl -s http://127.0.0.1/").stdout == "red\n"
    dnsmasq = red.start(
        [
            "dnsmasq",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=",
            "--group=",
            f"--pid-file={tmp_path}/d",
        ],
        ready="udp/53",
    )
    assert nginx.wait() == dnsmasq.wait() == 0
    assert not nginx.died
    assert not dnsmasq.died


def test_ready_by_pattern(red: Namespace) -> None:
    """A pattern is searched in the output, including a prompt without a newline."""
    script = "import sys, signal; sys.stderr.write('warming up\\nready> '); sys.stderr.flush(); signal.pause()"
    service = red.start(python(script), ready=re.compile(r"^ready> $", re.MULTILINE))
    assert service.output == "warming up\nready> "


def test_ready_by_function(red: Namespace, tmp_path: Path) -> None:
    """A function is polled until it returns true; its exceptions are raised, and the service is ended."""
    flag = tmp_path / "flag"
    red.start(["sh", "-c", f"touch {flag}; sleep 1000"], ready=flag.exists)
    assert flag.exists()

    def broken() -> bool:
        raise RuntimeError("broken check")

    with pytest.raises(RuntimeError, match="broken check"):
        red.start(["sleep", "1000"], ready=broken)
    assert red.programs.services[-1].returncode == -signal.SIGTERM


def test_ready_by_a_command_that_fails_at_first(red: Namespace, tmp_path: Path) -> None:
    """A command that fails in the function, or a client that is refused, means another try, not a failure."""
    flag = tmp_path / "flag"
    red.start(["sh", "-c", f"sleep 0.1; touch {flag}; sleep 1000"], ready=lambda: red.run(["test", "-e", flag]))
    assert not red.programs.lab.records.failures

    def connects() -> bool:
        red.create_connection(("127.0.0.1", 5000)).close()
        return True

    red.start(python(LISTEN, "tcp", "127.0.0.1", 5000), ready=connects)


def test_ready_by_several(red: Namespace) -> None:
    """All conditions of a list must hold."""
    both = f"{sys.executable} -m http.server 80 & exec {sys.executable} -m http.server 81"
    red.start(both, shell=True, ready=[80, "tcp/81"])
    with pytest.raises(NotReadyError, match="nothing listens on tcp port 83"):
        red.start(python(LISTEN, "tcp", "127.0.0.1", 82), ready=[82, 83], timeout=0.5)


@pytest.mark.parametrize("as_text", [False, True])
def test_ready_by_a_file(red: Namespace, tmp_path: Path, as_text: bool) -> None:
    """A path is ready when the service creates or replaces it: an existing one does not count."""
    path = tmp_path / "ready"
    path.write_text("of an earlier run")
    ready = str(path) if as_text else path
    with pytest.raises(NotReadyError, match="existed before the service was started"):
        red.start(["sleep", "1000"], ready=ready, timeout=0.1)
    red.start(["sh", "-c", f"sleep 0.1; echo now >{path}; sleep 1000"], ready=ready)
    assert path.read_text() == "now\n"


def test_ready_by_a_unix_socket(red: Namespace, tmp_path: Path) -> None:
    """A unix socket, as the namespace's programs see it, is ready once a process listens on it."""
    red.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path])
    script = """
        import signal, socket, sys
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[1])
        if sys.argv[2] == "listens": listener.listen()
        signal.pause()
    """
    with pytest.raises(NotReadyError, match=r"nothing listens on .*silent: Connection refused"):
        red.start(python(script, tmp_path / "silent", "no"), ready=tmp_path / "silent", timeout=0.3)
    red.start(python(script, tmp_path / "up", "listens"), ready=tmp_path / "up")
    assert not (tmp_path / "up").exists(), "it is in the namespace's own files"


def test_ready_by_the_port_of_a_program_that_hides_its_descriptors(red: Namespace) -> None:
    """ssh-agent, gpg-agent and programs that can be executed but not read hide their descriptors; their port counts all the same."""
    hidden = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"
    service = red.start(python(f"{hidden}\n{LISTEN}", "tcp", "127.0.0.1", 5000), ready=5000)
    assert service.poll() is None


@pytest.mark.parametrize("given", ["function", "what a function returns"])
def test_a_coroutine_is_not_ready(red: Namespace, given: str) -> None:
    """A coroutine object is always true: it is refused, and nothing is left running."""

    async def never() -> bool:
        return False

    with pytest.raises(InvalidTopologyError, match=r"cannot use .* as condition: nothing would await it"):
        red.start(["sleep", "1000"], ready=never if given == "function" else lambda never=never: never())
    assert all(each.poll() is not None for each in red.programs.services)


def test_a_frozen_clock_stops_no_wait(red: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a test has stopped Python's clocks, like freezegun, a wait still ends after its timeout."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with pytest.raises(NotReadyError, match="not ready after"):
        red.start(["sleep", "1000"], ready=80, timeout=0.1)
    with pytest.raises(NotReadyError, match="nothing listens on it"):
        red.wait_listening(80, timeout=0.1)
    with pytest.raises(NotReadyError, match="not true after"):
        red._lab.wait_until(lambda: False, timeout=0.1)


def test_a_frozen_clock_stops_no_program(red: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the timeouts of programs: `run`, `communicate` and `wait` time out, with the output."""
    for place, name in ((time, "monotonic"), (time, "time"), (subprocess, "_time")):
        monkeypatch.setattr(place, name, lambda: 0.0)
    for script in ("echo begun; exec sleep 1000", "echo begun; exec sleep 1000 >&- 2>&-"):
        with pytest.raises(CommandTimeout) as caught:
            red.run(["sh", "-c", script], timeout=0.5)
        assert caught.value.stdout == "begun\n"
    process = red.popen(["sh", "-c", "echo begun; sleep 1000"], stdout=subprocess.PIPE)
    for wait in (process.wait, process.communicate):
        with pytest.raises(subprocess.TimeoutExpired):
            wait(timeout=0.5)
    assert red.run("echo done", timeout=1000).stdout == "done\n"


# -- not ready -------------------------------------------------------------------------------------


def test_dies_early(red: Namespace) -> None:
    """A service that exits before it is ready is reported at once, with its status and output."""
    with pytest.raises(NotReadyError, match="ended with exit status 3 before it was ready") as caught:
        red.start(["sh", "-c", "echo no such file; exit 3"], ready=80, timeout=100_000)
    assert "no such file" in str(caught.value)


def test_the_port_that_was_meant(red: Namespace) -> None:
    """The error names the open ports, and the protocol if only that was wrong."""
    with pytest.raises(NotReadyError, match=r"nothing listens on tcp port 80; tcp ports that are listened on: 5001"):
        red.start(python(LISTEN, "tcp", "127.0.0.1", 5001), ready=80, timeout=0.5)
    with pytest.raises(NotReadyError, match=r"but udp port 53 is listened on: write ready='udp/53'"):
        red.start(python(LISTEN, "udp", "127.0.0.1", 53), ready=53, timeout=0.5)


def test_not_ready_in_time(red: Namespace) -> None:
    """A service that is not ready in time is ended; the error shows its output and what is missing."""
    with pytest.raises(NotReadyError, match="not ready after 1 s: nothing listens on tcp port 80") as caught:
        red.start(["sh", "-c", "echo loading; exec sleep 1000"], ready=80, timeout=1)
    assert "loading" in str(caught.value)
    assert red.programs.services[-1].returncode == -signal.SIGTERM


# -- output and end --------------------------------------------------------------------------------


def test_output_while_it_runs(red: Namespace) -> None:
    """A service's output can be read while it runs."""
    service = red.start("cat", stdin=subprocess.PIPE)
    assert service.stdin is not None
    assert service.output == ""
    for text, all_of_it in (("one\n", "one\n"), ("two", "one\ntwo")):
        service.stdin.write(text.encode())
        eventually(lambda wanted=all_of_it: service.output == wanted, "its output can be read")  # type: ignore[misc]
    assert service.poll() is None


def test_output_is_bounded(red: Namespace) -> None:
    """The end of the output is kept, with and without line ends, and never more than the limit."""
    script = "import os, sys; [os.write(1, b'x' * 65536) for _ in range(80)]; os.write(1, b'end')"
    service = red.start(python(script), ready=re.compile("end$"))
    assert service.wait() == 0
    assert len(service.output) <= OUTPUT_LIMIT
    assert len(service.output) > OUTPUT_LIMIT // 2
    assert service.output.endswith("xend")


def test_output_as_text(red: Namespace) -> None:
    """Output is text whatever the bytes: line ends are translated, invalid UTF-8 is replaced, split characters are joined."""
    script = r"import os; os.write(1, b'a\r\n\xff\xc3'); os.write(1, b'\xa4 end')"
    service = red.start(python(script), ready=re.compile("end"))
    assert service.output == "a\n\N{REPLACEMENT CHARACTER}ä end"


def test_with_block_stops(red: Namespace) -> None:
    """`with ns.start(...)` ends the service at the end of the block, and its output can be read afterwards."""
    with red.start(python(LISTEN, "tcp", "127.0.0.1", 5000), ready=5000) as service:
        assert isinstance(service, Service)
    assert service.returncode == -signal.SIGTERM
    assert service.output == "up\n"
    assert not service.died


def test_stop_kills(red: Namespace) -> None:
    """A service that ignores SIGTERM is killed."""
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    assert red.start(python(script), ready=re.compile("deaf")).stop(timeout=0.05) == -signal.SIGKILL


def test_died(red: Namespace) -> None:
    """A service that exits without having been stopped has died."""
    service = red.start(["sleep", "1000"])
    assert not service.died
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert service.died


# -- wait_listening --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_wait_listening_sees_a_socket_of_pytest(red: Namespace, protocol: str, host: str) -> None:
    """A socket that appears later, and belongs to no program inside, is detected, without connecting to it."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with red.socket(family, kind) as opened:
        opened.bind((host, 5000))
        if protocol == "tcp":
            with pytest.raises(NotReadyError):
                red.wait_listening(5000, protocol, timeout=0.05)  # bound, but not listening
            late = threading.Timer(0.05, opened.listen)
            late.start()
        red.wait_listening(5000, protocol)
        if protocol == "tcp":
            late.join()
            opened.setblocking(False)
            with pytest.raises(BlockingIOError):
                opened.accept()


def test_a_client_s_udp_socket_does_not_listen(red: Namespace) -> None:
    """A connected UDP socket receives only from its peer, so its port is not listening; an unconnected one is."""
    with red.socket(type=socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 5000))
        client.connect(("127.0.0.1", 53))
        with pytest.raises(NotReadyError, match="udp ports that are listened on: none"):
            red.wait_listening(5000, "udp", timeout=0.05)


def test_wait_listening_names_what_listens(red: Namespace) -> None:
    """The error lists the ports that are open instead."""
    red.start(python(LISTEN, "tcp", "127.0.0.1", 5001), ready=5001)
    with pytest.raises(
        NotReadyError, match=r"nothing listens on it after 0\.05 s; tcp ports that are listened on: 5001"
    ):
        red.wait_listening(5000, timeout=0.05)


def test_restart(red: Namespace) -> None:
    """A service can be restarted while it runs or after it has exited; it is ready again, as a new process."""
    first = red.start(python(LISTEN, "tcp", "127.0.0.1", 5000), ready=5000, env={"NAME": "first"})
    second = first.restart()
    assert (first.returncode, second.poll()) == (-signal.SIGTERM, None)
    second.kill()
    third = second.restart()
    red.wait_listening(5000, timeout=0.1)
    assert third.args == first.args
    assert b"NAME=first" in Path(f"/proc/{third.pid}/environ").read_bytes()


# -- waiting for a condition -------------------------------------------------------------------------


def test_wait_until(red: Namespace, tmp_path: Path) -> None:
    """A condition is polled until it is true; a failing command means another try, and neither is reported as a failure."""
    flag = tmp_path / "flag"
    writer = red.popen(["sh", "-c", f"sleep 0.1; echo 1 > {flag}"])
    done = red._lab.wait_until(lambda: red.run(["grep", "1", flag]))
    assert done.stdout == "1\n"
    assert red._lab.wait_until(lambda: writer.poll() == 0) is True
    assert not red.programs.lab.records.failures


def test_wait_until_in_vain(red: Namespace) -> None:
    """A condition that is not true in time is an error with its last result, or the failed command."""
    with pytest.raises(
        NotReadyError, match=r"cannot continue: the condition is not true after 0.02 s: it returned \[\]"
    ):
        red._lab.wait_until(list, timeout=0.02)
    with pytest.raises(NotReadyError, match="echo sorry; exit 3"):
        red._lab.wait_until(lambda: red.run("echo sorry; exit 3", shell=True), timeout=0.05)
    assert len(red.programs.lab.records.failures) == 1
    with pytest.raises(ZeroDivisionError):
        red._lab.wait_until(lambda: 1 // 0)


def closed(connection: socket.socket) -> bool:
    """True, once it is closed."""
    connection.close()
    return True


def test_wait_until_retries_on(red: Namespace) -> None:
    """Exceptions of clients mean another try: sockets' errors by default, others if they are named; the last one is shown."""
    red.start(f"sleep 0.1; exec {sys.executable} -m http.server 80", shell=True)
    red._lab.wait_until(lambda: closed(red.create_connection(("127.0.0.1", 80))))
    with pytest.raises(NotReadyError, match=r"it raised ZeroDivisionError") as caught:
        red._lab.wait_until(lambda: 1 // 0, timeout=0.02, retry_on=ZeroDivisionError)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ConnectionRefusedError):
        red._lab.wait_until(lambda: red.create_connection(("127.0.0.1", 81)), retry_on=ZeroDivisionError)


def test_wait_until_takes_no_coroutine(red: Namespace) -> None:
    """A coroutine function as condition, and waiting in a running event loop, are errors that name the alternative."""

    async def never() -> bool:
        return False

    with pytest.raises(InvalidTopologyError, match=r"write `await lab.wait_until_async"):
        red._lab.wait_until(never)  # type: ignore[unused-coroutine]

    async def waits() -> None:
        red._lab.wait_until(lambda: True)

    with pytest.raises(NetnsError, match=r"cannot wait in a running event loop.*write `await lab.wait_until_async"):
        asyncio.run(waits())


def test_wait_until_in_a_running_loop(red: Namespace) -> None:
    """`wait_until_async` lets the loop make the condition true, awaits coroutines, and fails like `wait_until`."""

    async def main() -> None:
        lab, done = red._lab, asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, done.set)
        assert await lab.wait_until_async(done.is_set) is True
        assert (await lab.wait_until_async(lambda: red.call_async(lambda: "found"))) == "found"
        with pytest.raises(NotReadyError, match="exit status 3"):
            await lab.wait_until_async(lambda: red.run("exit 3", shell=True), timeout=0.05)
        with pytest.raises(NotReadyError, match="it returned 0"):
            await lab.wait_until_async(lambda: asyncio.sleep(0, 0), timeout=0.02)

    asyncio.run(main())


# -- several at once ---------------------------------------------------------------------------------

MEMBER = """
import signal, socket, sys, time
own, *peers = sys.argv[1:]
listener = socket.create_server((own, 7000))
for peer in peers:
    while True:
        try:
            socket.create_connection((peer, 7000), 1).close()
            break
        except OSError:
            time.sleep(0.01)
print("all are there", flush=True)
signal.pause()
"""


def test_start_all(netns_lan: Lab) -> None:
    """Members that are ready only once all others have started become ready, each in its own namespace."""
    addresses = {"red": "192.168.15.1", "blue": "192.168.15.2"}
    commands = {netns_lan[name]: python(MEMBER, own, *addresses.values()) for name, own in addresses.items()}
    members = netns_lan.start_all(commands, ready=re.compile("all are there"))
    assert [(each.name, service.namespace, service.poll()) for each, service in members.items()] == [
        ("red", netns_lan["red"], None),
        ("blue", netns_lan["blue"], None),
    ]


def test_start_all_in_vain(netns_lan: Lab) -> None:
    """If one of them does not become ready, none is left."""
    red, blue = netns_lan["red"], netns_lan["blue"]
    with pytest.raises(
        NotReadyError, match="cannot start service 'false' in namespace 'blue': it ended with exit status 1"
    ):
        netns_lan.start_all({red: "sleep 1000", blue: "false"}, ready=80)
    assert [each.poll() for each in red.programs.services] == [-signal.SIGTERM]
