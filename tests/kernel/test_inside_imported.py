"""Names and sockets of Python code that has obtained `socket`'s functions otherwise than by ``import socket``."""

from __future__ import annotations

import _socket
import importlib
import socket
import subprocess
import sys
from pathlib import Path
from socket import create_connection, getaddrinfo, gethostbyaddr, gethostbyname
from types import ModuleType

import pytest

from pytest_netns import Lab

BLUE = "192.168.15.2"


def test_functions_imported_by_name(netns_pair: Lab) -> None:
    """``from socket import gethostbyname`` at the top of a file, executed before any lab, resolves as inside."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    with blue.create_server(("", 80)), red:
        assert gethostbyname("blue") == BLUE
        assert gethostbyaddr(BLUE)[0] == "blue"
        assert getaddrinfo("blue", 80)[0][4][0] == BLUE
        create_connection(("blue", 80), 2).close()
    with pytest.raises(socket.gaierror):
        gethostbyname("blue")


def test_they_are_themselves_again() -> None:
    """After the last lab, the names refer to Python's own functions."""
    with Lab() as lab:
        with lab.add_namespace("red"):
            assert gethostbyname("red")
    assert gethostbyname is socket.gethostbyname is _socket.gethostbyname
    assert "_getaddrinfo" not in repr(_socket.getaddrinfo)
    assert _socket.getaddrinfo.__class__.__name__ == "builtin_function_or_method"


def test_a_module_imported_in_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was imported since the last lab is found, even if as many modules have gone."""
    (tmp_path / "netns_looks_up.py").write_text("from socket import gethostbyname\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "netns_forgotten", ModuleType("netns_forgotten"))
    with Lab() as lab, lab.add_namespace("red"):
        pass
    number = len(sys.modules)
    monkeypatch.delitem(sys.modules, "netns_forgotten")
    imported = importlib.import_module("netns_looks_up")
    assert len(sys.modules) == number
    with Lab() as lab, lab.add_namespace("red"):
        assert imported.gethostbyname("red")
    del sys.modules["netns_looks_up"]


def test_names_as_bytes_and_derived_sockets(netns_pair: Lab) -> None:
    """Host names can be bytes; a subclass of `socket.socket` resolves names too."""

    class Derived(socket.socket):
        pass

    red, blue = netns_pair["red"], netns_pair["blue"]
    with blue.create_server(("", 80)), red:
        assert socket.getaddrinfo(b"blue", 80)[0][4][0] == BLUE
        for host in ("blue", b"blue", bytearray(b"blue")):
            with Derived() as connection:
                connection.connect((host, 80))
                assert connection.getpeername() == (BLUE, 80)


@pytest.mark.parametrize("family", [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6], ids=str)
@pytest.mark.netns
def test_localhost_with_nothing_but_the_loopback_interface(family: int) -> None:
    """AI_ADDRCONFIG, which aiohttp uses, does not hide localhost if no other interface has an address."""
    assert socket.getaddrinfo("localhost", 80, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)


REFUSING = """
import socket

class Refusing(socket.socket):  # as pytest-socket's --disable-socket puts it in place
    def __new__(cls, *args, **kwargs):
        raise RuntimeError("a test tried to use socket.socket")

socket.socket = Refusing
from pytest_netns import Lab

with Lab() as lab:
    red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
    lab.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    red.run("ping -c1 -W2 blue")
    red.socket().close()
    with lab.capture() as packets, red:
        assert socket.gethostbyname("blue") == "192.168.15.2"
    try:
        socket.socket()
    except RuntimeError:
        print("still refused")
"""


def test_where_sockets_are_refused() -> None:
    """A plugin that denies `socket.socket` to tests does not break this one, and stays in force."""
    done = subprocess.run([sys.executable, "-c", REFUSING], capture_output=True, text=True, check=False)
    assert done.stdout == "still refused\n", done.stderr
