"""If a container refuses PID or mount namespaces, or mounts, everything else works, and what is missing is reported."""

from __future__ import annotations

import pytest

CASES = {
    "pids": "PID namespace: unshare: Operation not permitted",
    "mounts": "mount namespace: unshare: Operation not permitted",
    "mount": "mount namespace: mount /: Operation not permitted",
    "names": "host name: unshare: Operation not permitted",
    "pids,mounts,names": "PID namespace: unshare: Operation not permitted",
}
INNER = """
import os, signal, subprocess, sys
import pytest
from pytest_netns import NetnsError

MISSING = {missing!r}

DAEMON = '''
import os, signal
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.close(1)
signal.pause()
'''
inodes = set()

def daemon(ns, stubborn):
    started = ns.popen([sys.executable, "-ISc", DAEMON.format(stubborn=stubborn)], stdout=subprocess.PIPE)
    assert started.stdout.read()

def test_processes(netns_pair):
    red = netns_pair["red"]
    inodes.add(red._kernel.inode)
    assert red.run("ip -o link").stdout.count("\\n") == 2
    red.run("ping -c1 -W2 192.168.15.2")
    listen = "import socket, signal; s = socket.create_server(('', 5000)); signal.pause()"
    service = red.start([sys.executable, "-ISc", listen], ready=5000)
    stopped = red.popen(["sleep", "1000"])
    stopped.send_signal(signal.SIGSTOP)
    daemon(red, True)
    daemon(red, False)
    forks = "import os, socket, signal; s = socket.create_server(('', 5001)); os.fork() and os._exit(0); signal.pause()"
    assert not red.start([sys.executable, "-ISc", forks], ready=5001).died
    assert red.call(lambda: 42) == 42
    with pytest.raises(NetnsError) as failed:
        red.run("false")
    with pytest.raises(NetnsError) as late:
        red.start(["sleep", "1000"], ready=5002, timeout=0.1)
    for caught in (failed, late):
        assert MISSING in "".join(caught.value.__notes__)

def test_gone():
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                inode = os.stat(f"/proc/{entry}/ns/net").st_ino
            except OSError:
                continue
            assert inode not in inodes, open(f"/proc/{entry}/cmdline").read()
"""


@pytest.mark.parametrize("refused", CASES)
def test_refused(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Everything else works, teardown finds daemons by their network; header, errors and summary show what is missing."""
    missing = CASES[refused]
    monkeypatch.setenv("REFUSE", refused)
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makepyfile(INNER.replace("{missing!r}", repr(missing)))
    result = pytester.runpytest_subprocess("-p", "tests.support.refusals", "--netns-leaks=error")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [f"netns: not available: *{missing}*", f"programs in namespaces ran without: *{missing}*"]
    )
