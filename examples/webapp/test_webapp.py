"""A real web server, nginx, behind a gateway: reached by a port forward, with the clients' real addresses.

nginx runs in blue (192.168.15.2); its port 80 is port 8080 of host's outer address (192.168.1.2).
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import CommandError, Lab, Service

CONFIGURATION = """
daemon off; pid nginx.pid; worker_processes 1;
events {}
http {
    access_log access.log;
    client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3; uwsgi_temp_path 4; scgi_temp_path 5;
    server { listen 80; location / { return 200 "hello from blue"; } }
}
"""
FETCH = ["curl", "-sS", "--max-time", "5"]


@pytest.fixture
def nginx(netns_nat: Lab, tmp_path: Path) -> Service:
    """nginx, ready, in blue; all its files are in the test's own directory."""
    (tmp_path / "nginx.conf").write_text(CONFIGURATION)
    return netns_nat["blue"].start(["nginx", "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"], ready=80)


@pytest.fixture
def clients(nginx: Service, tmp_path: Path) -> Callable[[], list[str]]:
    """The addresses of clients; nginx writes the end of its log when it exits."""

    def read() -> list[str]:
        nginx.stop()
        return [line.split()[0] for line in (tmp_path / "access.log").read_text().splitlines()]

    return read


def test_reached_from_outside_by_a_port_forward(netns_nat: Lab, clients: Callable[[], list[str]]) -> None:
    netns_nat.host.forward_port(8080, to="blue:80")
    assert netns_nat["outside"].run([*FETCH, "http://192.168.1.2:8080/"]).stdout == "hello from blue"
    assert clients() == ["192.168.1.3"]  # the real client, not the gateway


@pytest.mark.parametrize("url", ["http://192.168.1.2:8080/", "http://192.168.15.2/"])
def test_not_reached_without_the_port_forward(netns_nat: Lab, clients: Callable[[], list[str]], url: str) -> None:
    with pytest.raises(CommandError, match=r"curl: \(7\)"):
        netns_nat["outside"].run([*FETCH, url])
    assert clients() == []


def test_reached_from_inside_by_both_addresses(netns_nat: Lab, nginx: Service) -> None:
    netns_nat.host.forward_port(8080, to="blue:80")
    for address in ("192.168.15.2", "192.168.1.2:8080"):
        assert netns_nat["red"].run([*FETCH, f"http://{address}/"]).stdout == "hello from blue"
