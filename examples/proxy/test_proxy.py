"""HAProxy in front of two nginx servers: requests are distributed, and clients do not notice when one server stops."""

from pathlib import Path

import pytest

from pytest_netns import Lab, Service

NGINX = """
daemon off; pid nginx.pid; worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3; uwsgi_temp_path 4; scgi_temp_path 5;
  server { listen 80; location / { return 200 $hostname; } }  # a namespace's name is its host name
}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
  option redispatch
frontend www
  bind :80
  default_backend servers
backend servers
  balance roundrobin
  default-server check inter 100ms fall 1 rise 1
  server red 192.168.15.1:80
  server blue 192.168.15.2:80
"""


@pytest.fixture
def nginx(netns_nat: Lab, tmp_path: Path) -> dict[str, Service]:
    """An nginx in red and one in blue, by name."""
    services = {}
    for name in ("red", "blue"):
        home = tmp_path / name
        home.mkdir()
        (home / "nginx.conf").write_text(NGINX)
        services[name] = netns_nat[name].start(["nginx", "-p", home, "-c", "nginx.conf", "-e", "stderr"], ready=80)
    return services


@pytest.fixture
def haproxy(netns_nat: Lab, nginx: dict[str, Service], tmp_path: Path) -> Service:
    (tmp_path / "haproxy.cfg").write_text(HAPROXY)
    return netns_nat.host.start(["haproxy", "-db", "-f", tmp_path / "haproxy.cfg"], ready=80)


def who_answers(lab: Lab, requests: int = 4) -> list[str]:
    """The servers that answer requests from the internet."""
    return sorted(lab["outside"].run("curl -sf --max-time 5 http://192.168.1.2/").stdout for _ in range(requests))


def test_requests_are_shared_out(netns_nat: Lab, haproxy: Service) -> None:
    assert who_answers(netns_nat) == ["blue", "blue", "red", "red"]


def test_a_server_stops_and_comes_back(netns_nat: Lab, haproxy: Service, nginx: dict[str, Service]) -> None:
    nginx["red"].stop()
    assert who_answers(netns_nat) == ["blue"] * 4
    nginx["red"].restart()
    netns_nat.wait_until(lambda: "red" in who_answers(netns_nat))  # after HAProxy's next check
