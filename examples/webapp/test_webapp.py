"""A real web server, nginx, behind a gateway: reached by a port forward, seeing its real clients.

nginx runs in blue (192.168.15.2), its port 80 is port 8080 of host's outer address (192.168.1.2).
"""

import socket

import pytest

from pytest_netns import CommandError

CONFIGURATION = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 80;
        location / {{ return 200 "hello from blue"; }}
    }}
}}
"""
FETCH = ["curl", "-sS", "--max-time", "5"]


@pytest.fixture
def nginx(netns_nat, tmp_path):
    """nginx, ready, in blue; it keeps everything it writes in the test's own directory."""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(directory=tmp_path))
    program = ["nginx", "-p", str(tmp_path), "-e", "stderr", "-c", str(configuration)]
    return netns_nat["blue"].start(program, ready=80)


@pytest.fixture
def access_log(tmp_path):
    """The client address of each request so far."""

    def read():
        return [line.split()[0] for line in (tmp_path / "access.log").read_text().splitlines()]

    return read


def test_reached_from_outside_by_a_port_forward(netns_nat, nginx, access_log):
    netns_nat.host.forward_port(8080, to="blue:80")
    answer = netns_nat["outside"].run([*FETCH, "http://192.168.1.2:8080/"])
    assert answer.stdout == "hello from blue"
    nginx.stop()  # it writes its log before it ends
    assert access_log() == ["192.168.1.3"]  # the real client, not the gateway


def test_not_reached_without_the_port_forward(netns_nat, nginx, access_log):
    with pytest.raises(CommandError, match=r"(?i)could.?n.t connect|failed to connect|refused"):
        netns_nat["outside"].run([*FETCH, "http://192.168.1.2:8080/"])
    with pytest.raises(CommandError, match=r"(?i)could.?n.t connect|failed to connect|unreachable"):
        netns_nat["outside"].run([*FETCH, "http://192.168.15.2/"])
    nginx.stop()
    assert access_log() == []


def test_reached_from_inside_by_both_addresses(netns_nat, nginx):
    netns_nat.host.forward_port(8080, to="blue:80")
    for address in ("192.168.15.2", "192.168.1.2:8080"):
        assert netns_nat["red"].run([*FETCH, f"http://{address}/"]).stdout == "hello from blue"


def test_red_goes_out_masqueraded(netns_nat):
    with netns_nat["outside"].socket() as server, netns_nat["red"].socket() as client:
        server.bind(("192.168.1.3", 80))
        server.listen()
        client.settimeout(5)
        client.connect(("192.168.1.3", 80))
        connection, peer = server.accept()
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    assert peer[0] == "192.168.1.2"
