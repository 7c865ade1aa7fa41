"""Podman and a lab: a container in a namespace of the lab, and an existing one that is adopted. Needs root."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import Lab

# Podman's own files are in memory, and the machine's control groups are not used: the container has none.
PODMAN = (
    "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /mnt && "
    "exec podman --root /mnt/root --runroot /mnt/run --storage-driver vfs --runtime crun --cgroup-manager cgroupfs "
    "--log-level error run --rm --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 {options} "
    "--rootfs {home}/image /bin/busybox httpd -f -p 80 -h /www"
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with only a web server; returns the directory that contains it."""
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "www"):
        (tmp_path / "image" / name).mkdir(parents=True)
    (tmp_path / "image/bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "image/bin/busybox").chmod(0o755)
    (tmp_path / "image/www/index.html").write_text("from the container\n")
    return tmp_path


def test_a_container_in_a_namespace_of_the_lab(netns_nat: Lab, image: Path) -> None:
    """The container has blue's network: the router forwards to it."""
    blue, outside = netns_nat["blue"], netns_nat["outside"]
    script = PODMAN.format(home=image, options=f"--network ns:{blue.path}")
    blue.start(["sh", "-c", script], ready=lambda: blue.probe("127.0.0.1:80") == "open", timeout=60)
    netns_nat.host.forward_port(8080, to="blue:80")
    assert outside.run("curl -sS http://192.168.1.2:8080/").stdout == "from the container\n"


@pytest.fixture
def container(image: Path) -> Iterator[int]:
    """A container started by another program, without network: returns its server's PID."""
    pid_file = image / "pid"
    script = PODMAN.format(home=image, options=f"--network none --pidfile {pid_file}")
    podman = subprocess.Popen(["unshare", "--mount", "sh", "-c", script])
    while not (pid_file.exists() and pid_file.read_text()):
        assert podman.poll() is None
        os.sched_yield()
    pid = int(pid_file.read_text())
    yield pid
    os.kill(pid, signal.SIGKILL)
    podman.wait()


def test_an_existing_container(netns: Lab, container: int) -> None:
    """It gets a link to the lab, is used like any other namespace, and is cut off."""
    web, client = netns.adopt("web", pid=container), netns.add_namespace("client")
    netns.add_veth(web, client, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    netns.wait_until(lambda: client.probe("web:80") == "open")
    assert client.run("curl -sS http://web/").stdout == "from the container\n"
    with netns.cut("client", to="web"):
        assert client.probe("web:80") == "timeout"
