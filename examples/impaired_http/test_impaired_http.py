"""An HTTP client over realistic links: time-outs over a long distance, retries over loss, a slow line that gets faster."""

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest

from pytest_netns import Lab, VethPair

NGINX = """
daemon off; pid nginx.pid; worker_processes 1;
user root;  # as root, since only root can read a test's files
events {}
http {
  access_log off;
  client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3; uwsgi_temp_path 4; scgi_temp_path 5;
  server { listen 80; root .; location = /hello { return 200 hello; } }
}
"""
SIZE = 500_000


@pytest.fixture
def link(netns: Lab, tmp_path: Path) -> VethPair:
    """A link between a client, red, and a web server, blue."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    made = netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    (tmp_path / "nginx.conf").write_text(NGINX)
    (tmp_path / "large").write_bytes(bytes(SIZE))
    blue.start(["nginx", "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"], ready=80)
    return made


def get(path: str, timeout: float) -> httpx.Response:
    """The client under test: one request, with a time-out for each step."""
    return httpx.get(f"http://blue/{path}", timeout=timeout, trust_env=False)


def get_with_retries(path: str, timeout: float, attempts: int) -> httpx.Response:
    """Like `get`, again after each time-out."""
    for _ in range(attempts - 1):
        with contextlib.suppress(httpx.TransportError):
            return get(path, timeout)
    return get(path, timeout)


def download(path: str, deadline: float) -> bytes:
    """Download a whole file within a number of seconds."""

    async def fetch() -> bytes:
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            return (await client.get(f"http://blue/{path}")).content

    return asyncio.run(asyncio.wait_for(fetch(), deadline))


def test_a_time_out_shorter_than_the_way(netns: Lab, link: VethPair) -> None:
    """200 ms each way: a connection takes at least 400 ms."""
    with link.impair(delay="200ms"):
        with pytest.raises(httpx.ConnectTimeout):
            netns["red"].call(get, "hello", 0.3)
        assert netns["red"].call(get, "hello", 10).text == "hello"
    assert netns["red"].call(get, "hello", 10).text == "hello"


def test_retries_over_loss(netns: Lab, link: VethPair) -> None:
    """Three packets in ten are lost each way: with TCP and retries every request succeeds in the end."""
    with link.impair(delay="20ms", loss="30%", seed=7):
        for _ in range(2):
            assert netns["red"].call(get_with_retries, "hello", 2, 20).text == "hello"


def test_a_slow_line_that_gets_faster(netns: Lab, link: VethPair) -> None:
    """500 kB take 4 s at 1 Mbit/s; the rate is changed while the test runs."""
    link.impair(rate="1mbit")
    with pytest.raises(TimeoutError):
        netns["red"].call(download, "large", 1)
    link.impair(rate="100mbit")
    assert len(netns["red"].call(download, "large", 30)) == SIZE
