"""PostgreSQL with a streaming replica in another namespace: the cable between them is cut, and plugged in again."""

import glob
import os
import re
import shutil
import tempfile
import time

import pytest

BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
READY = re.compile("ready to accept (read-only )?connections")
# PostgreSQL refuses to run as root.
USER = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def sql(machine, query):
    """One value, asked for on the machine itself."""
    command = [f"{BIN}/psql", "-h", "127.0.0.1", "-U", "admin", "-d", "postgres", "-Atc", query]
    return machine.run(command, **USER).stdout.strip()


def start(machine, data):
    options = ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    return machine.start([f"{BIN}/postgres", "-D", data, *options], ready=READY, timeout=60, cwd=data, **USER)


def wait_for(machine, query, answer):
    deadline = time.monotonic() + 20
    while sql(machine, query) != answer:
        assert time.monotonic() < deadline, f"{query}: not {answer}"


@pytest.fixture
def home():
    """A directory that the database's user can get to, which tmp_path is not for another user."""
    path = tempfile.mkdtemp(prefix="replication-")
    if USER:
        shutil.chown(path, "postgres", "postgres")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def databases(netns_pair, home):
    red, blue = netns_pair["red"], netns_pair["blue"]
    red.run([f"{BIN}/initdb", "-D", f"{home}/red", "-U", "admin", "--auth=trust", "--no-sync"], cwd=home, **USER)
    with open(f"{home}/red/pg_hba.conf", "a") as rules:
        rules.write("host replication admin 192.168.15.2/32 trust\n")
    start(red, f"{home}/red")
    blue.run(
        [f"{BIN}/pg_basebackup", "-h", "192.168.15.1", "-U", "admin", "-D", f"{home}/blue", "-R", "-X", "stream"],
        cwd=home,
        **USER,
    )
    start(blue, f"{home}/blue")
    return red, blue


def test_replica_catches_up_after_the_cable_was_cut(databases):
    red, blue = databases
    sql(red, "create table t (n int); insert into t values (1)")
    wait_for(blue, "select count(*) from pg_class where relname = 't'", "1")
    wait_for(blue, "select count(*) from t", "1")

    red.interfaces["veth-red"].down()
    sql(red, "insert into t values (2)")
    assert sql(blue, "select count(*) from t") == "1"  # it still answers, with what it knows

    red.interfaces["veth-red"].up()
    wait_for(blue, "select count(*) from t", "2")
