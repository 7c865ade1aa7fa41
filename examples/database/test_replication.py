"""PostgreSQL with a streaming replica in another namespace: the link between them is unplugged and plugged in again."""

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from pytest_netns import Lab, Namespace, Service

BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
READY = re.compile("ready to accept (read-only )?connections")
USER = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root


@pytest.fixture
def home() -> Iterator[str]:
    """A directory that the database's user can access, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="replication-") as path:
        if USER:
            try:
                shutil.chown(path, USER)
            except OSError:  # in a user namespace, as of unshare --map-root-user
                pytest.skip("PostgreSQL refuses to run as root, and there is no other user here: --map-current-user")
        yield path


@pytest.fixture
def databases(netns_pair: Lab, home: str) -> tuple[Namespace, Namespace]:
    """A primary in red, and its replica in blue."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    red.run([f"{BIN}/initdb", "-D", f"{home}/red", "-U", "admin", "--auth=trust", "--no-sync"], cwd=home, user=USER)
    with open(f"{home}/red/pg_hba.conf", "a") as rules:
        rules.write("host replication admin 192.168.15.2/32 trust\n")
    start(red, f"{home}/red")
    copy = [f"{BIN}/pg_basebackup", "-h", "red", "-U", "admin", "-D", f"{home}/blue", "-R", "-X", "stream"]
    blue.run(copy, cwd=home, user=USER)
    start(blue, f"{home}/blue")
    return red, blue


def start(machine: Namespace, data: str) -> Service:
    options = ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    return machine.start([f"{BIN}/postgres", "-D", data, *options], ready=READY, timeout=60, cwd=data, user=USER)


def sql(machine: Namespace, query: str) -> str:
    """The result of a query, sent on the machine itself."""
    return machine.run(
        [f"{BIN}/psql", "-h", "127.0.0.1", "-U", "admin", "-d", "postgres", "-Atc", query]
    ).stdout.strip()


def test_replica_catches_up_after_the_link_was_cut(netns: Lab, databases: tuple[Namespace, Namespace]) -> None:
    red, blue = databases
    sql(red, "create table t (n int); insert into t values (1)")
    netns.wait_until(lambda: sql(blue, "select count(*) from t") == "1", timeout=20)

    red.interfaces["veth-red"].down()
    sql(red, "insert into t values (2)")
    assert sql(blue, "select count(*) from t") == "1"  # it still answers, with its old data

    red.interfaces["veth-red"].up()
    netns.wait_until(lambda: sql(blue, "select count(*) from t") == "2", timeout=20)
