"""Servers that run as their own users: as root, and rootless if newuidmap and /etc/subuid map the other users."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from pytest_netns import Lab
from pytest_netns.kernel.system import privileges

pytestmark = pytest.mark.skipif(
    not privileges.has_other_users(), reason="needs other users: newuidmap and a line in /etc/subuid, or root"
)


def programs_of_postgresql() -> Path:
    """The directory of the newest PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    return found[-1]


def test_a_program_is_another_user(netns: Lab) -> None:
    """``user=`` sets that user's uid and groups, as in the machine's /etc/passwd; the user may use the network."""
    red = netns.add_namespace("red")
    account = pwd.getpwnam("postgres")
    uid, gid = red.run(["sh", "-c", "id -u; id -g"], user="postgres").stdout.split()
    assert (int(uid), int(gid)) == (account.pw_uid, account.pw_gid)
    assert red.run("id -Gn", user="postgres").stdout.split()[0] == "postgres"
    red.run("ping -c1 red", user="nobody")


def test_another_user_s_program_is_stopped(netns: Lab) -> None:
    """pytest may signal it, and it ends with the lab."""
    red = netns.add_namespace("red")
    sleeper = red.popen("sleep 60", user="nobody")
    assert sleeper.stop() == -15
    left = red.popen("sleep 60", user="nobody")
    netns.close()
    assert left.returncode is not None


def test_postgresql_as_postgres(netns_pair: Lab, tmp_path: Path) -> None:
    """PostgreSQL refuses root, and requires a data directory that its user owns."""
    programs = programs_of_postgresql()
    red, blue = netns_pair["red"], netns_pair["blue"]
    blue.tmpfs("/var/lib/postgresql")
    account = pwd.getpwnam("postgres")
    blue.call(os.chown, "/var/lib/postgresql", account.pw_uid, account.pw_gid)
    data = "/var/lib/postgresql/data"
    blue.run(
        [programs / "initdb", "-D", data, "-A", "trust", "--no-sync", "--no-instructions"], user="postgres", cwd="/"
    )
    blue.run(["sh", "-c", f"echo host all all 192.168.15.0/24 trust >> {data}/pg_hba.conf"], user="postgres")
    options = ["-c", "listen_addresses=*", "-c", "fsync=off", "-c", f"unix_socket_directories={data}"]
    with blue.start([programs / "postgres", "-D", data, *options], user="postgres", cwd="/", ready=5432):
        said = red.run(["psql", "-h", "blue", "-U", "postgres", "-Atc", "select current_user"], cwd="/")
    assert said.stdout == "postgres\n"


CONFIGURATION = """
pid /run/nginx.pid;
error_log stderr;
events {}
http { access_log off; server { listen 80; return 200 hello; } }
"""


def test_nginx_changes_its_user(netns: Lab) -> None:
    """nginx, started as root, runs its workers as www-data."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed")
    red = netns.add_namespace("red")
    private, files = ["/run", "/var/lib/nginx", "/var/log/nginx"], {"/etc/nginx/nginx.conf": CONFIGURATION}
    blue = netns.add_namespace("blue", private=private, files=files)
    netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    nginx = ["/usr/sbin/nginx", "-g", "daemon off; user www-data;"]
    with blue.start(nginx, user="root", group="root", extra_groups=[], cwd="/", ready=80):
        assert red.run("curl -s http://blue/").stdout == "hello"
        assert "www-data" in blue.run(["ps", "-eo", "user,args"]).stdout
