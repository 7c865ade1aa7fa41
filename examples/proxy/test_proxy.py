"""HAProxy in front of two nginx: requests are shared out, and one server's end is nobody's trouble."""

import pytest

NGINX = """
daemon off; pid {home}/nginx.pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3; uwsgi_temp_path {home}/4;
  scgi_temp_path {home}/5;
  server {{ listen 80; location / {{ return 200 {name}; }} }}
}}
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
def nginx(netns_nat, tmp_path):
    """An nginx in red and one in blue, by name."""
    services = {}
    for name in ("red", "blue"):
        home = tmp_path / name
        home.mkdir()
        config = home / "nginx.conf"
        config.write_text(NGINX.format(home=home, name=name))
        services[name] = netns_nat[name].start(["nginx", "-c", config, "-e", "stderr"], ready=80)
    return services


@pytest.fixture
def haproxy(netns_nat, nginx, tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY)
    return netns_nat.host.start(["haproxy", "-db", "-f", config], ready=80)


def get(lab):
    """Who answers somebody on the internet."""
    return lab["outside"].run("curl -sf --max-time 5 http://192.168.1.2/").stdout


def test_requests_are_shared_out(netns_nat, haproxy):
    answers = [get(netns_nat) for _ in range(4)]
    assert sorted(answers) == ["blue", "blue", "red", "red"]


def test_a_server_stops_and_comes_back(netns_nat, haproxy, nginx):
    nginx["red"].stop()
    assert {get(netns_nat) for _ in range(4)} == {"blue"}

    netns_nat["red"].start(nginx["red"].args, ready=80)
    while get(netns_nat) != "red":  # until the next health check; pytest-timeout's matter if it never comes
        pass
