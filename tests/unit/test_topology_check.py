"""A topology with mistakes is refused before the kernel is touched: all mistakes at once, each with its place and the valid values."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.topology import BridgeSpec, NamespaceSpec, Topology

LAN = """
[[bridges]]
name = "v-net-0"
address = "192.168.15.5/24"
ports = [{ namespace = "red", address = "192.168.15.1/24" }, { namespace = "blue", address = "192.168.15.2/24" }]
"""


def problems_of(text: str) -> list[str]:
    """The mistakes in TOML text, without the source's name."""
    with pytest.raises(InvalidTopologyError) as caught:
        Topology.loads(text, "T")
    assert all(problem.startswith("T: ") and problem in str(caught.value) for problem in caught.value.problems)
    return [problem.removeprefix("T: ") for problem in caught.value.problems]


def bridge(*ports: str, rest: str = "") -> str:
    """TOML of one bridge; each port is the inside of its inline table."""
    return f'[[bridges]]\nname = "br0"\n{rest}\nports = [{", ".join(f"{{ {port} }}" for port in ports)}]\n'


def route(rest: str) -> str:
    """The picture's LAN with one route in red."""
    return f'{LAN}[[routes]]\nnamespace = "red"\n{rest}\n'


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        # keys and types
        ('[[bridge]]\nname = "x"', "bridge", "did you mean 'bridges'?"),
        ('[bridges]\nname = "x"', "bridges", "write [[bridges]]"),
        ("bridges = 5", "bridges[0]", "cannot use 5"),
        ("bridges = [5]", "bridges[0]", "BridgeSpec"),
        ("[[bridges]]", "bridges[0].name", "is missing"),
        (bridge("namespace = 'red', adress = '10.0.0.1/24'"), "bridges[0].ports[0].adress", "did you mean 'address'?"),
        (bridge("name = 'eth0'"), "bridges[0].ports[0].namespace", "is missing"),
        (bridge(rest="gateway = 1"), "bridges[0].gateway", "valid are true and false"),
        ("allow_overlap = 'yes'", "allow_overlap", "valid are true and false"),
        ("[[veths]]\nends = [{ namespace = 'a' }]", "veths[0].ends", "a veth pair has 2"),
        ("[[veths]]\nsubnet = '10.0.0.0/24'", "veths[0].ends", "a veth pair has 2"),
        # values
        (bridge("namespace = 'r d'"), "bridges[0].ports[0].namespace", "1 to 63 characters"),
        (bridge("namespace = 'red', address = '10.0.0.1'"), "bridges[0].ports[0].address", "prefix length"),
        (bridge("namespace = 'red', address = ['10.0.0.1/24', 7]"), "bridges[0].ports[0].address[1]", "cannot use 7"),
        (bridge("namespace = 'red', mtu = 67"), "bridges[0].ports[0].mtu", "68 to 65535"),
        (bridge("namespace = 'red', mac = 'x'"), "bridges[0].ports[0].mac", "six bytes"),
        (bridge("namespace = 'red', name = 'lo'"), "bridges[0].ports[0].name", "the kernel reserves"),
        (bridge(rest="subnet = 'fd00::/64'"), "bridges[0].subnet", "write it as 'subnet6'"),
        (bridge(rest="subnet6 = '10.0.0.0/24'"), "bridges[0].subnet6", "write it as 'subnet'"),
        ("[[namespaces]]\nname = 'red'\nsysctls = { 'kernel.panic' = 1 }", "namespaces[0].sysctls", "below 'net'"),
        ("[[namespaces]]\nname = 'red'\nsysctls = 5", "namespaces[0].sysctls", "write names with values"),
        ("[[namespaces]]\nname = 'red'\nhostnames = '-x'", "namespaces[0].hostnames", "letters, digits"),
        ("[[namespaces]]\nname = 'red'\nresolver = 'x'", "namespaces[0].resolver", "IPv4 or IPv6 address"),
        ("[[namespaces]]\nname = 'red'\nnft = 5", "namespaces[0].nft", "write text"),
        # duplicates
        ("[[namespaces]]\nname = 'red'\n[[namespaces]]\nname = 'red'", "namespaces[1].name", "namespaces[0] has that name"),
        ("[[namespaces]]\nname = 'red'\nhostnames = ['a', 'a']", "namespaces[0].hostnames", "already resolves to"),
        ("[[namespaces]]\nname = 'red'\nhostnames = 'blue'\n[[namespaces]]\nname = 'blue'", "namespaces[0].hostnames", "a namespace"),
        (bridge("namespace = 'red', name = 'x'", "namespace = 'red', name = 'x'"), "bridges[0].ports[1].name", "bridges[0].ports[0]"),
        (bridge("namespace = 'host', name = 'br0'"), "bridges[0].ports[0].name", "bridges[0] has that name"),
        (bridge() + bridge(), "bridges[1].name", "cannot use 'br0' twice in namespace 'host'"),
        (bridge("namespace = 'a', address = '10.0.0.1/24'", rest="address = '10.0.0.1/24'"), "bridges[0].ports[0].address", "twice"),
        (bridge("namespace = 'a', address = ['10.0.0.1/24', '10.0.0.1/24']"), "bridges[0].ports[0].address", "twice"),
        (LAN + "[[port_forwards]]\nnamespace='host'\nport=80\nto='red:80'\n" * 2, "port_forwards[1].port", "port_forwards[0] does"),
        (route("destination='10.0.0.0/8'\nvia='192.168.15.5'") + "[[routes]]\nnamespace='red'\ndestination='10.0.0.0/8'\nvia='blue'",
         "routes[1]", "give them different metrics"),
        (route("destination='default'\nvia='192.168.15.5'") + "[[routes]]\nnamespace='red'\ndestination='0.0.0.0/0'\nvia='blue'",
         "routes[1]", "give them different metrics"),
        # networks
        (LAN + bridge("namespace='a', address='192.168.0.1/16'"), "bridges[1].ports[0].address", "overlaps '192.168.15.0/24' of bridges[0].address"),
        (LAN + bridge(rest="subnet = '192.168.15.0/24'"), "bridges[1].subnet", "set allow_overlap"),
        (bridge("namespace='a', address='10.0.0.1/24'", "namespace='b', address='10.0.0.2/16'"), "bridges[0].ports[1].address", "overlaps"),
        (bridge("namespace='a'", "namespace='b'", rest="subnet='10.0.0.0/30'"), "bridges[0].subnet", "too few for the 3 interfaces"),
        (bridge("namespace='a', mtu=1000", rest="subnet6='fd00::/64'"), "bridges[0].ports[0].mtu", "IPv6 needs at least 1280"),
        (bridge("namespace='a'", rest="gateway=true"), "bridges[0].gateway", "give it an address or a subnet"),
        (bridge("namespace='a', address='10.1.0.1/24'", rest="gateway=true\naddress='10.0.0.1/24'"), "bridges[0].ports[0].address", "is on '10.0.0.0/24'"),
        (bridge("namespace='a'", rest="subnet='10.0.0.0/24'\ngateway=true")
         + "[[bridges]]\nname='br1'\nsubnet='10.1.0.0/24'\ngateway=true\nports=[{namespace='a'}]", "bridges[1].gateway", "bridges[0].gateway has it"),
        # references
        (route("destination='default'\nvia='bleu'"), "routes[0].via", "did you mean 'blue'?"),
        (LAN + "[[routes]]\nnamespace='rde'\ndestination='default'\nvia='192.168.15.5'", "routes[0].namespace", "did you mean 'red'?"),
        (LAN + "[[masquerades]]\nnamespace='hots'\nsource='192.168.15.0/24'", "masquerades[0].namespace", "did you mean 'host'?"),
        (LAN + "[[port_forwards]]\nnamespace='host'\nport=80\nto='bleu:80'", "port_forwards[0].to", "did you mean 'blue'?"),
        (route("destination='10.0.0.0/8'\ndev='veth-rde'"), "routes[0].dev", "did you mean 'veth-red'?"),
        (LAN + "[[masquerades]]\nnamespace='host'\nsource='192.168.15.0/24'\nout='v-net-1'", "masquerades[0].out", "did you mean 'v-net-0'?"),
        # routes
        (route("destination='default'"), "routes[0].via", "needs via (a gateway) or dev"),
        (route("destination='default'\ndev='veth-red'"), "routes[0].destination", "write '0.0.0.0/0' or '::/0'"),
        (route("destination='default'\nvia='192.168.16.5'"), "routes[0].via", "'red' is on '192.168.15.0/24' (veth-red)"),
        (route("destination='default'\nvia='192.168.15.1'"), "routes[0].via", "an address of 'red' itself"),
        (route("destination='fd00::/64'\nvia='192.168.15.5'"), "routes[0].via", "it is IPv4, and the destination 'fd00::/64' is IPv6"),
        (route("destination='default'\nvia='fe80::1'"), "routes[0].via", "needs dev"),
        (route("destination='10.0.0.0/8'\nvia='192.168.15.5'\nmetric=-1"), "routes[0].metric", "from 0 to"),
        (route("destination='10.0.0.0/8'\nvia='192.168.15.5'\ntable=0"), "routes[0].table", "a number from 1 to"),
        (route("destination='10.0.0.0/8'\nvia='192.168.15.5'\ntable='mian'"), "routes[0].table", "use 'local', 'main'"),
        (route("destination='10.0.0.0/8'\ntype='blackhloe'"), "routes[0].type", "did you mean 'blackhole'?"),
        (route("destination='10.0.0.0/8'\ntype='blackhole'\nvia='blue'"), "routes[0].via", "has no gateway or interface"),
        (route("destination='10.0.0.0/8'\ntype='throw'\ndev='veth-red'"), "routes[0].dev", "has no gateway or interface"),
        (route("destination='default'\ntype='unreachable'"), "routes[0].destination", "write '0.0.0.0/0' or '::/0'"),
        (route("destination='10.0.0.0/8'\nvia=[]"), "routes[0].via", "needs via (a gateway) or dev"),
        (route("destination='10.0.0.0/8'\nvia=['192.168.15.5', '192.168.16.5']"), "routes[0].via", "on no network of 'red'"),
        (route("destination='10.0.0.0/8'\nvia=['blue', '192.168.15.2']"), "routes[0].via", "'192.168.15.2' twice"),
        (route("destination='10.0.0.0/8'\nvia=['blue', 'bleu']"), "routes[0].via", "did you mean 'blue'?"),
        (route("destination='10.0.0.0/8'\nvia=['blue', '10.0.0.0/8']"), "routes[0].via[1]", "without prefix length"),
        (route("destination='10.0.0.0/8'\nvia='blue'\nsource='192.168.15.9'"), "routes[0].source", "no address of 'red'; 'red' is on"),
        (route("destination='10.0.0.0/8'\nvia='blue'\nsource='fd00::1'"), "routes[0].source", "it is IPv6, and the route is IPv4"),
        (route("destination='10.0.0.0/8'\nvia='10.9.9.9'\nonlink=true"), "routes[0].onlink", "without via and dev"),
        (route("destination='10.9.9.0/24'\ntype='unreachable'") + "[[routes]]\nnamespace='red'\ndestination='default'\nvia='10.9.9.9'",
         "routes[1].via", "on no network of 'red'"),
        (LAN + bridge("namespace='red', name='eth1'") + "[[routes]]\nnamespace='red'\ndestination='default'\nvia='192.168.15.5'\ndev='eth1'",
         "routes[0].via", "on no network of 'red' behind 'eth1'"),
        # NAT
        (LAN + "[[masquerades]]\nnamespace='host'\nsource='fd00::/64'", "masquerades[0].source", "no IPv6 address"),
        (LAN + "[[port_forwards]]\nnamespace='host'\nport=80\nto='[fd00::1]:80'", "port_forwards[0].to", "'host' has no IPv6 address"),
        (LAN + bridge("namespace='bare'") + "[[port_forwards]]\nnamespace='host'\nport=80\nto='bare:80'", "port_forwards[0].to", "has no address"),
        (LAN + "[[port_forwards]]\nnamespace='host'\nport=0\nto='red:80'", "port_forwards[0].port", "1 to 65535"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_once_with_its_place(text: str, where: str, what: str) -> None:
    """One mistake gives one problem, which begins with its key path and lists the valid values."""
    problems = problems_of(text)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{where}: "), problems
    assert what in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "allow_overlap = true\n" + LAN + bridge("namespace='c', address='192.168.15.9/24'"),
        bridge("namespace='a', address='10.0.0.1/32'", "namespace='b', address='10.0.0.2/24'"),
        bridge("namespace='a', address='fe80::1/64'") + "[[veths]]\nends=[{namespace='a', address='fe80::1/64'}, {namespace='b'}]",
        route("destination='10.0.0.1/32'\ndev='veth-red'") + "[[routes]]\nnamespace='red'\ndestination='default'\nvia='10.0.0.1'",
        route("destination='fd00::/64'\nvia='fe80::1'\ndev='veth-red'"),
        route("destination='10.0.0.0/8'\nvia=['192.168.15.5', 'blue']"),
        route("destination='10.0.0.0/8'\ntype='unreachable'\ntable=101\nmetric=5"),
        route("destination='10.0.0.0/8'\nvia='blue'") + "[[routes]]\nnamespace='red'\ndestination='10.0.0.0/8'\nvia='blue'\ntable=101",
        route("destination='10.0.0.0/8'\nvia='192.168.15.5'\nmetric=1") + "[[routes]]\nnamespace='red'\ndestination='10.0.0.0/8'\nvia='blue'\nmetric=2",
        bridge("namespace='dhcp'", rest="gateway=true\naddress='10.0.0.1/24'"),
        LAN + "[[port_forwards]]\nnamespace='host'\nport=53\nto='red'\n[[port_forwards]]\nnamespace='host'\nport=53\nto='red'\nprotocol='udp'",
        "[[veths]]\nends=[{namespace='red'}, {namespace='red'}]",
    ],
)  # fmt: skip
def test_what_looks_odd_but_works_is_accepted(text: str) -> None:
    """Allowed overlaps, single addresses, link-local ones, gateways behind on-link routes and loops are no mistakes."""
    Topology.loads(text)


def test_all_mistakes_at_once() -> None:
    """Unknown keys, invalid values and mistakes between parts come in one error, each once."""
    text = (
        LAN.replace("192.168.15.2/24", "192.168.15.2")
        + "nmae = 5\n"
        + "[[routes]]\nnamespace='red'\ndestination='default'\nvia='10.9.9.9'\n"
        + "[[port_forwards]]\nnamespace='host'\nport=80\nto='gren:80'\n"
        + "[[namespaces]]\nname='green'\n[[namespaces]]\nname='green'\n"
    )
    places = [problem.split(": ")[0] for problem in problems_of(text)]
    assert places == [
        "bridges[0].nmae", "bridges[0].ports[1].address", "namespaces[1].name", "port_forwards[0].to", "routes[0].via",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "place", "route"),
    [
        ("192.168.15.2/24", "bridges[0].ports[1].address", "namespace='blue'\ndestination='default'\nvia='192.168.15.5'"),
        ("192.168.15.5/24", "bridges[0].address", "namespace='host'\ndestination='10.0.0.0/8'\nvia='192.168.15.1'"),
        ("192.168.15.5/24", "bridges[0].address", "namespace='blue'\ndestination='10.0.0.0/8'\ndev='veth-blue'"),
        ("192.168.15.2/24", "bridges[0].ports[1].address", "namespace='red'\ndestination='10.0.0.0/8'\nvia='blue'"),
    ],
)  # fmt: skip
def test_no_mistakes_are_made_up(wrong: str, place: str, route: str) -> None:
    """Consequences of another mistake are not reported: the route may be right once the address is."""
    text = LAN.replace(wrong, "x") + f"[[routes]]\n{route}\n"
    assert [problem.split(": ")[0] for problem in problems_of(text)] == [place]


def test_a_wrong_name_may_have_meant_any_namespace() -> None:
    """While a port's namespace is unknown, no route is refused for a missing interface."""
    text = bridge("namespace='r d', address='10.0.0.1/24'") + "[[namespaces]]\nname='red'\n"
    text += "[[routes]]\nnamespace='red'\ndestination='default'\nvia='10.0.0.2'\n"
    assert [problem.split(": ")[0] for problem in problems_of(text)] == ["bridges[0].ports[0].namespace"]


def test_python_is_checked_as_toml_is() -> None:
    """Parts of a wrong type and invalid values given in Python are reported together, with the same key paths."""
    with pytest.raises(InvalidTopologyError) as caught:
        Topology(["red"], [BridgeSpec("br 0", ports=["blue"])], routes=[NamespaceSpec("x")])  # type: ignore[list-item]
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "namespaces[0]", "bridges[0].name", "bridges[0].ports[0]", "routes[0]",
    ]  # fmt: skip
    assert isinstance(caught.value, ValueError)


SCHEMA = jsonschema.Draft202012Validator(Topology.json_schema())
KEYS = sorted({"name", "namespace", "address", "ports", "ends", "via", "dev", "to", "port", "subnet", "gateway", "sysctls", "x", "nft",
               "destination", "source", "protocol", "mtu", "hostnames", "subnet6", "forwarding", "resolver", "out", "metric"})  # fmt: skip
SCALARS = (
    st.sampled_from(
        ["red", "host", "10.0.0.1/24", "fd00::1/64", "10.0.0.0/24", "10.0.0.1", "default", "red:80", "", "%"]
    )
    | st.integers(-1, 70000)
    | st.booleans()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=12,
)
TABLES = st.sampled_from(["namespaces", "bridges", "veths", "routes", "masquerades", "port_forwards", "allow_overlap"])
PART = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)


def toml(value: object) -> str:
    """Any value as inline TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(held)}" for key, held in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@settings(max_examples=200)
@given(st.dictionaries(TABLES, VALUES | st.lists(PART, max_size=3), max_size=4))
def test_any_text_is_read_or_refused(document: dict[str, object]) -> None:
    """Any file is read or refused with its mistakes; what is read is also valid by the schema."""
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    problems: tuple[str, ...] | None = None
    try:
        topology = Topology.loads(text, "T")
    except InvalidTopologyError as error:
        problems = error.problems
    else:
        assert Topology.loads(topology.dumps()) == topology
        SCHEMA.validate(tomllib.loads(text))
    assert problems is None or (problems and all(problem.startswith("T: ") for problem in problems))
