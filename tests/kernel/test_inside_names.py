"""Names: in programs, in calls and in the test's own threads a name resolves as in the namespace."""

from __future__ import annotations

import _socket
import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_netns import InvalidTopologyError, Lab, Namespace, NamespaceSpec, NetnsError, Topology
from pytest_netns.kernel.netlink import rtaddresses
from pytest_netns.kernel.netlink.socket import NetlinkSocket

RED, BLUE = "192.168.15.1", "192.168.15.2"


def addresses(host: str) -> set[str]:
    """The addresses of a name."""
    return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}


def known_in(namespace: Namespace) -> dict[str, str]:
    """Addresses by name, from the namespace's /etc/hosts, without localhost."""
    lines = [line.split() for line in namespace.run("cat /etc/hosts").stdout.splitlines() if line[:1].isdigit()]
    return {name: line[0] for line in lines for name in line[1:] if name != "localhost"}


@pytest.fixture
def nobody_patched() -> Iterator[None]:
    """`socket` is restored once the test's lab is closed."""
    functions = ("getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")
    before = {name: getattr(socket, name) for name in functions}
    yield
    assert {name: getattr(socket, name) for name in functions} == before
    assert socket.gethostbyname is _socket.gethostbyname
    assert not {"connect", "connect_ex", "bind", "sendto"} & set(vars(socket.socket))


@pytest.fixture
def pair(nobody_patched: None, netns_pair: Lab) -> tuple[Namespace, Namespace]:
    """red and blue, joined by a veth pair."""
    return netns_pair["red"], netns_pair["blue"]


def test_programs_find_each_namespace_by_name(pair: tuple[Namespace, Namespace]) -> None:
    """ping and getent resolve the others' names, their own, and localhost."""
    red, _ = pair
    red.run("ping -c1 -W2 blue")
    assert red.run("getent hosts blue").stdout.split() == [BLUE, "blue"]
    assert red.run("getent ahostsv4 red").stdout.split()[0] == RED
    assert red.run("getent ahostsv4 localhost").stdout.split()[0] == "127.0.0.1"


def test_names_resolve_to_reachable_addresses(netns: Lab) -> None:
    """host resolves to its address on the reader's own network, or to any if none is shared."""
    red, outside = netns.add_namespace("red"), netns.add_namespace("outside")
    netns.add_veth(netns.host, outside, addresses=("192.168.1.2/24", "192.168.1.3/24"))
    netns.add_veth(netns.host, red, addresses=("192.168.15.5/24", "192.168.15.1/24"))
    assert known_in(netns["red"])["host"] == "192.168.15.5"
    assert known_in(netns["outside"])["host"] == "192.168.1.2"
    assert known_in(netns["red"])["outside"] == "192.168.1.3"
    assert known_in(netns["outside"])["outside"] == "192.168.1.3"


def test_names_follow_what_changes(netns: Lab) -> None:
    """A long-running program sees new namespaces, new addresses, removed ones, and host names."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    shell = red.popen("sh", stdin=-1, stdout=-1)
    questions, answers = shell.stdin, shell.stdout
    assert questions
    assert answers

    def ask() -> str:
        questions.write("grep -v localhost /etc/hosts | grep '[0-9]' | tr '\\n' ';'; echo\n")
        questions.flush()
        return str(answers.readline().strip())

    assert ask() == "127.0.0.1 red;"
    a, b = netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    assert ask() == "192.168.15.1 red;192.168.15.2 blue;"
    b.add_address("fd00::2/64")
    assert ask() == "192.168.15.1 red;192.168.15.2 blue;fd00::2 blue;"
    b.remove_address("192.168.15.2/24")
    netns.add_hostname("api.example.com", blue)
    netns.add_hostname("printer", "192.168.15.9")
    assert ask() == "192.168.15.1 red;fd00::2 blue;fd00::2 api.example.com;192.168.15.9 printer;"
    a.delete()
    assert ask() == "127.0.0.1 red;192.168.15.9 printer;"
    questions.close()
    answers.close()


def test_addresses_a_program_has_added_are_known_to_the_next(netns: Lab) -> None:
    """Changes by `ip` are read before the next program starts."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    netns.add_veth(red, blue)
    blue.run("ip address add 10.1.0.2/24 dev veth-blue")
    red.run("ip address add 10.1.0.1/24 dev veth-red")
    red.run("ping -c1 -W2 blue")


def test_name_servers_of_a_closed_lab() -> None:
    """Setting them in a closed lab is an error."""
    with Lab() as lab:
        red = lab.add_namespace("red")
        red.run("true")
    with pytest.raises(NetnsError, match="cannot use namespace 'red': its lab is closed"):
        red.resolver = ["192.168.15.53"]


def test_a_closed_socket_does_not_wait_for_changes() -> None:
    """If changes of addresses can no longer be detected, addresses are read again."""
    watching = NetlinkSocket("here", groups=rtaddresses.ADDRESS_GROUPS)
    assert not watching.has_notifications()
    watching.close()
    assert watching.has_notifications()


def test_a_hostname_may_not_hide_a_namespace(pair: tuple[Namespace, Namespace], netns_pair: Lab) -> None:
    """A host name equal to a namespace's name, or an invalid one, is refused."""
    with pytest.raises(InvalidTopologyError, match="cannot add host name 'blue'"):
        netns_pair.add_hostname("blue", "red")
    with pytest.raises(InvalidTopologyError, match="no good"):
        netns_pair.add_hostname("no good", "red")
    with pytest.raises(InvalidTopologyError):
        netns_pair.add_hostname("api.example.com", "nowhere")


def test_the_machine_s_own_files_are_never_written(pair: tuple[Namespace, Namespace], netns_pair: Lab) -> None:
    """Files that a lab writes stay in its namespaces."""
    before = {name: Path("/etc", name).read_bytes() for name in ("hosts", "resolv.conf", "nsswitch.conf")}
    red, blue = pair
    red.resolver = BLUE
    netns_pair.add_hostname("api.example.com", blue)
    for namespace in pair:
        namespace.run("cat /etc/hosts")
    assert {name: Path("/etc", name).read_bytes() for name in before} == before


def test_a_file_a_program_has_replaced_is_left_to_it(pair: tuple[Namespace, Namespace], netns_pair: Lab) -> None:
    """A DHCP client writes its own resolv.conf; later host names do not undo that."""
    red, _ = pair
    red.run("echo nameserver 192.0.2.1 > /etc/resolv.conf", shell=True)
    netns_pair.add_hostname("api.example.com", "blue")
    assert red.run("cat /etc/resolv.conf").stdout == "nameserver 192.0.2.1\n"
    assert known_in(red)["api.example.com"] == BLUE


@pytest.mark.parametrize("host", ["blue", "api.example.com"])
def test_python_s_lookups_inside_a_block(pair: tuple[Namespace, Namespace], netns_pair: Lab, host: str) -> None:
    """Every function of `socket` that resolves names does so as in red, in a thread that is in red."""
    red, blue = pair
    netns_pair.add_hostname("api.example.com", blue)
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(host, 80)
    with red:
        assert addresses(host) == {BLUE}
        assert socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0][4] == (BLUE, 80)
        assert socket.gethostbyname(host) == BLUE
        assert socket.gethostbyname_ex(host) == (host, [], [BLUE])
        assert socket.gethostbyaddr(BLUE)[0] == "blue"
        assert socket.getfqdn("blue") == "blue"
        assert socket.getnameinfo((BLUE, 80), socket.NI_NUMERICSERV) == ("blue", "80")
    with blue:
        assert addresses("red") == {RED}


def test_sockets_take_names_inside_a_block(pair: tuple[Namespace, Namespace]) -> None:
    """connect, connect_ex, bind and sendto resolve names too, as usual."""
    red, blue = pair
    with blue.create_server(("", 80)), blue.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 53))
        with red, socket.socket() as tcp, socket.socket() as second, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.connect(("blue", 80))
            assert tcp.getpeername() == (BLUE, 80)
            assert second.connect_ex(("blue", 80)) == 0
            udp.bind(("red", 0))
            assert udp.getsockname()[0] == RED
            udp.sendto(b"hello", ("blue", 53))
            udp.sendto(b"hello", 0, ("blue", 53))
            with pytest.raises(socket.gaierror):
                tcp.connect(("nobody", 80))
        receiver.settimeout(10)
        assert receiver.recv(100) == b"hello"


def test_numbers_need_no_lookup(netns: Lab) -> None:
    """An address, None or "" is answered directly: no helper is started, and nothing is created in the namespace."""
    red = netns.add_namespace("red")
    with red:
        assert addresses("192.0.2.1") == {"192.0.2.1"}
        assert addresses("fd00::1") == {"fd00::1"}
        assert socket.getaddrinfo(None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        assert socket.gethostbyname("192.0.2.1") == "192.0.2.1"
        assert socket.getnameinfo(("192.0.2.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
            "192.0.2.1",
            "80",
        )
    assert red.programs.view is None


def test_threads_and_event_loops_started_inside_look_up_inside(pair: tuple[Namespace, Namespace]) -> None:
    """Threads, pool workers and asyncio's resolver that are started inside a block resolve as in the namespace."""
    red, _ = pair

    async def main() -> str:
        return str((await asyncio.get_running_loop().getaddrinfo("blue", 80))[0][4][0])

    found: list[set[str]] = []
    with red:
        thread = threading.Thread(target=lambda: found.append(addresses("blue")))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(addresses, "blue").result())
        found.append({asyncio.run(main())})
    assert found == [{BLUE}] * 3


def test_a_lookup_without_an_answer_fails_at_once(pair: tuple[Namespace, Namespace]) -> None:
    """Without a name server none is asked: there are only refused packets to the namespace's own loopback."""
    red, _ = pair
    with red, pytest.raises(socket.gaierror):
        socket.getaddrinfo("nobody.example.com", 80)
    assert red.run("getent hosts nobody.example.com", check=False, timeout=4).returncode == 2


def test_a_silent_name_server_is_given_up_after_one_try(pair: tuple[Namespace, Namespace]) -> None:
    """A server that never answers is asked once, for a second: a lookup does not take 10 s."""
    red, blue = pair
    red.resolver = [BLUE]
    assert "options timeout:1 attempts:1" in red.run("cat /etc/resolv.conf").stdout
    with blue.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("", 53))
        assert red.run("getent ahostsv4 nobody.example.com", check=False, timeout=8).returncode == 2
        silent.setblocking(False)
        assert b"nobody" in silent.recv(512)
        with pytest.raises(BlockingIOError):
            silent.recv(512)


def test_a_dns_server_in_the_lab_answers_for_its_zone(pair: tuple[Namespace, Namespace]) -> None:
    """A real dnsmasq in blue as red's name server: programs, calls and the test's own thread get its answers."""
    red, blue = pair
    blue.start(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --user= --group= --pid-file= "
        "--address=/shop.example/192.0.2.7",
        ready="udp/53",
    )
    assert red.resolver == []
    red.resolver = BLUE
    assert red.resolver == [BLUE]
    assert red.run("getent ahostsv4 www.shop.example").stdout.split()[0] == "192.0.2.7"
    assert red.call(addresses, "www.shop.example") == {"192.0.2.7"}
    with red:
        assert addresses("www.shop.example") == {"192.0.2.7"}
        with pytest.raises(socket.gaierror):
            addresses("nobody.example.com")
    red.resolver = []
    assert red.run("getent hosts www.shop.example", check=False).returncode == 2


def test_name_servers_are_checked(netns: Lab) -> None:
    """Invalid addresses are refused, and so are more name servers than the C library uses."""
    red = netns.add_namespace("red")
    with pytest.raises(InvalidTopologyError, match="nobody"):
        red.resolver = "nobody"
    with pytest.raises(InvalidTopologyError, match="4 name servers"):
        red.resolver = ["192.0.2.1"] * 4


def test_a_topology_s_names_and_name_servers(netns: Lab) -> None:
    """hostnames and resolver of a NamespaceSpec are in force once it is built."""
    netns.build(Topology.inline(namespaces=["red", "blue"], subnet="192.168.15.0/24"))
    netns.build(Topology(namespaces=[NamespaceSpec("green", hostnames=["db.example.com"], resolver=["192.0.2.53"])]))
    assert netns["green"].resolver == ["192.0.2.53"]
    assert "nameserver 192.0.2.53" in netns["green"].run("cat /etc/resolv.conf").stdout
    netns["green"].run("ip link add veth-x type veth peer name veth-y")
    netns["green"].run("ip address add 10.2.0.1/24 dev veth-x")
    assert known_in(netns["red"])["db.example.com"] == "10.2.0.1"


def test_two_labs_with_the_same_names(netns_pair: Lab) -> None:
    """Names belong to a lab: the same name has another address in another lab, and closing one keeps the other's."""
    with Lab() as other:
        red, blue = other.add_namespace("red"), other.add_namespace("blue")
        other.add_veth(red, blue, addresses=("10.9.0.1/24", "10.9.0.2/24"))
        with red:
            assert addresses("blue") == {"10.9.0.2"}
        with netns_pair["red"]:
            assert addresses("blue") == {BLUE}
    with netns_pair["red"]:
        assert addresses("blue") == {BLUE}
