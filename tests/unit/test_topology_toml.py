"""A topology as TOML: written and read back unchanged, and described by the JSON Schema."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_netns
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.topology import (
    PICTURES,
    BridgeSpec,
    MasqueradeSpec,
    NamespaceSpec,
    PortForwardSpec,
    PortSpec,
    RouteSpec,
    Topology,
    VethEnd,
    VethSpec,
)

DESIGN = """
[[namespaces]]
name = "gw"
forwarding = true

[[bridges]]
name = "v-net-0"
namespace = "gw"                       # default: host
address = "192.168.15.5/24"
ports = [{ namespace = "red", address = "192.168.15.1/24" },
         { namespace = "blue", address = ["192.168.15.2/24", "fd00::2/64"], name = "veth-blue" }]

[[veths]]
ends = [{ namespace = "gw", name = "eth0", address = "192.168.1.2/24" },
        { namespace = "outside", name = "eth0", address = "192.168.1.3/24" }]

[[routes]]
namespace = "red"
destination = "default"
via = "192.168.15.5"

[[masquerades]]
namespace = "gw"
source = "192.168.15.0/24"
out = "eth0"

[[port_forwards]]
namespace = "gw"
port = 80
to = "192.168.15.2:80"
protocol = "tcp"
"""


def test_toml_is_read_as_the_same_value_as_python() -> None:
    """The documented TOML and the Python for it are equal."""
    assert Topology.loads(DESIGN) == Topology(
        [NamespaceSpec("gw", forwarding=True)],
        [
            BridgeSpec(
                "v-net-0",
                namespace="gw",
                address="192.168.15.5/24",
                ports=[
                    PortSpec("red", address="192.168.15.1/24"),
                    PortSpec("blue", addresses=["192.168.15.2/24", "fd00::2/64"], name="veth-blue"),
                ],
            )
        ],
        veths=[
            VethSpec(
                [
                    VethEnd("gw", name="eth0", address="192.168.1.2/24"),
                    VethEnd("outside", name="eth0", address="192.168.1.3/24"),
                ]
            )
        ],
        routes=[RouteSpec("red", "default", via="192.168.15.5")],
        masquerades=[MasqueradeSpec("gw", "192.168.15.0/24", out="eth0")],
        port_forwards=[PortForwardSpec("gw", 80, "192.168.15.2:80")],
    )


def test_sysctls_may_be_written_with_or_without_quotes() -> None:
    """TOML parses dots outside quotes as nested tables; both forms mean the setting."""
    quoted = Topology.loads('[[namespaces]]\nname = "red"\nsysctls = { "net.ipv4.ip_forward" = 1 }')
    dotted = Topology.loads('[[namespaces]]\nname = "red"\nsysctls.net.ipv4.ip_forward = true')
    assert quoted == dotted
    assert quoted.namespaces[0].sysctls == (("net.ipv4.ip_forward", "1"),)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_survive_being_written(name: str) -> None:
    """The ready-made pictures, unchanged and filled in, are read back equal."""
    for topology in (PICTURES[name], PICTURES[name].assigned()):
        assert Topology.loads(topology.dumps()) == topology


def test_an_empty_topology() -> None:
    """An empty topology is written and read as empty."""
    assert Topology().dumps() == ""
    assert Topology.loads("") == Topology()


VALIDATOR = jsonschema.Draft202012Validator(Topology.json_schema())
NAMES = [f"n{n}" for n in range(6)] + ["host", "a-long.name_15c"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
MTU = st.none() | st.integers(1280, 65535)
MAC = st.none() | st.integers(0, 2**32).map(
    lambda n: "02:00:" + ":".join(f"{n:08x}"[i : i + 2] for i in range(0, 8, 2))
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Valid topologies: every segment has its own subnets, routes have neighbours as gateways."""
    numbers = iter(range(1, 250))

    def subnets(number: int) -> dict[str, str | None]:
        v4, v6 = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        return {"subnet": f"10.{number}.0.0/24" if v4 else None, "subnet6": f"fd00:{number}::/64" if v6 else None}

    def explicit(number: int, host: int) -> list[str]:
        return draw(
            st.sampled_from(
                [[], [f"10.{number}.0.{host}/24"], [f"10.{number}.0.{host}/24", f"fd00:{number}::{host:x}/64"]]
            )
        )

    bridges = []
    for _ in range(draw(st.integers(0, 3))):
        number = next(numbers)
        ports = [
            PortSpec(name, addresses=explicit(number, 10 + n), mtu=draw(MTU), mac=draw(MAC))
            for n, name in enumerate(draw(st.lists(st.sampled_from(NAMES), max_size=5)))
        ]
        home = draw(st.sampled_from(NAMES))
        bridges.append(BridgeSpec(f"br{number}", namespace=home, ports=ports, mtu=draw(MTU), **subnets(number)))  # type: ignore[arg-type]
    veths = []
    for _ in range(draw(st.integers(0, 3))):
        number = next(numbers)
        ends = [VethEnd(draw(st.sampled_from(NAMES)), mtu=draw(MTU), name=f"eth{number}{n}") for n in range(2)]
        veths.append(VethSpec(ends, **subnets(number)))  # type: ignore[arg-type]
    namespaces = [
        NamespaceSpec(
            name,
            forwarding=draw(st.booleans()),
            nft=draw(TEXT),
            hostnames=[f"{name}{n}.test" for n in range(draw(st.integers(0, 2)))],
            sysctls=draw(st.dictionaries(st.sampled_from(["net.a", "net.b.c"]), st.integers() | st.just('a "b\\ c'))),
            resolver=draw(st.lists(st.ip_addresses(), max_size=2)),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    ]
    plain = Topology(namespaces, bridges, veths=veths)
    routes, masquerades, forwards = [], [], []
    for n, each in enumerate(plain.interfaces):
        for m, address in enumerate(each.addresses if draw(st.booleans()) else ()):
            target = address.network[200]
            destination = f"172.16.{n}.0/24" if address.version == 4 else f"fd77:{n}::/64"
            ways = draw(st.sampled_from([[target], [target, address.network[201]]]))
            routes.append(
                RouteSpec(
                    each.namespace,
                    destination,
                    via=ways,
                    metric=draw(st.none() | st.integers(0, 9)),
                    table=draw(st.sampled_from([None, "local", 101])),
                )
            )
            if draw(st.booleans()):
                routes.append(RouteSpec(each.namespace, destination, type="unreachable", metric=10))
            masquerades.append(
                MasqueradeSpec(each.namespace, address.network, out=draw(st.sampled_from([None, each.name])))
            )
            to = f"[{target}]:80" if address.version == 6 else str(target)
            forwards.append(
                PortForwardSpec(each.namespace, 1 + 9 * n + m, to, protocol=draw(st.sampled_from(["tcp", "udp"])))
            )
    return Topology(namespaces, bridges, veths=veths, routes=routes, masquerades=masquerades, port_forwards=forwards)


@settings(max_examples=60)
@given(topologies())
def test_every_topology_survives_being_written(topology: Topology) -> None:
    """The text of any topology is valid by the schema and is read back equal; so is that of the filled-in one."""
    VALIDATOR.validate(tomllib.loads(topology.dumps()))
    assert Topology.loads(topology.dumps()) == topology
    assigned = topology.assigned()
    assert Topology.loads(assigned.dumps()) == assigned
    assert assigned.interfaces == topology.interfaces
    assert assigned.assigned() == assigned
    assert assigned.namespace_names == topology.namespace_names


@settings(max_examples=50)
@given(topologies())
def test_assigned_addresses_are_unique_on_each_segment(topology: Topology) -> None:
    """No interface gets an address that another one has."""
    held = [(each.segment, address.ip) for each in topology.interfaces for address in each.addresses]
    assert len(held) == len(set(held))


@given(TEXT | st.sampled_from(['"""', "\\", "a\r\nb", "\x7f\x1f", "'''\n'''", '\n"\n""""\n\n']))
def test_any_text_survives_being_written(text: str) -> None:
    """Quotes, backslashes, control characters and line ends in nft text are read back unchanged."""
    topology = Topology([NamespaceSpec("red", nft=text)])
    assert Topology.loads(topology.dumps()) == topology


def test_the_schema_that_ships_is_the_generated_one() -> None:
    """The file for editors is what the code accepts now."""
    shipped = (Path(pytest_netns.__file__).parent / "topology" / "schema.json").read_text(encoding="utf-8")
    assert shipped == json.dumps(Topology.json_schema(), indent=2) + "\n"


def test_the_schema_tells_keys_and_requirements() -> None:
    """The schema refuses unknown keys, requires the required ones, and lets an address be one or several."""
    schema = Topology.json_schema()
    assert schema["additionalProperties"] is False
    bridge = schema["properties"]["bridges"]["items"]
    assert bridge["required"] == ["name"]
    assert bridge["properties"]["namespace"]["default"] == "host"
    port = bridge["properties"]["ports"]["items"]
    assert set(port["properties"]) == {"namespace", "address", "name", "mtu", "mac", "impairment"}
    assert [each["type"] for each in port["properties"]["address"]["oneOf"]] == ["string", "array"]
    assert all("description" in key for key in port["properties"].values())


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("text", [DESIGN, *(path.read_text() for path in EXAMPLES.glob("*/*.toml"))])
def test_the_schema_accepts_what_people_write(text: str) -> None:
    """An editor finds no mistakes in the documented file and those of the examples."""
    VALIDATOR.validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "[[bridge]]",
        "bridges = 5",
        "[[bridges]]",
        "allow_overlap = 'yes'",
        "[[veths]]\nends = [{ namespace = 'a', adress = '10.0.0.1/24' }, { namespace = 'b' }]",
        "[[bridges]]\nname = 'br0'\nports = [{ namespace = 'red', mtu = '1500' }]",
        "[[bridges]]\nname = 'br0'\nports = [{ namespace = 'red', mtu = 67 }]",
        "[[bridges]]\nname = 'a b'",
        "[[port_forwards]]\nnamespace = 'host'\nport = 0\nto = 'red:80'",
        "[[port_forwards]]\nnamespace = 'host'\nport = 80\nto = 'red:80'\nprotocol = 'sctp'",
    ],
)
def test_the_schema_refuses_what_is_refused(text: str) -> None:
    """The editor already marks a wrong key, type, name or number."""
    with pytest.raises(InvalidTopologyError):
        Topology.loads(text)
    assert not VALIDATOR.is_valid(tomllib.loads(text))


def test_a_file_is_named_in_its_mistakes(tmp_path: Path) -> None:
    """A mistake in a file begins with the file and the key path; so does text that is not TOML, and a file that is not text."""
    file = tmp_path / "office.toml"
    file.write_text('[[bridges]]\nname = "v-net-0"\nports = [{ namespace = "red", address = "192.168.15.1" }]')
    with pytest.raises(InvalidTopologyError) as caught:
        Topology.from_toml(file)
    assert caught.value.problems[0].startswith(f"{file}: bridges[0].ports[0].address: cannot use '192.168.15.1'")
    file.write_text("[[bridges]")
    with pytest.raises(InvalidTopologyError, match=r"office\.toml: not valid TOML: .*line 1"):
        Topology.from_toml(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidTopologyError, match=r"office\.toml: not valid UTF-8"):
        Topology.from_toml(file)
    with pytest.raises(FileNotFoundError):
        Topology.from_toml(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "[" * 400 + "]" * 400,
        "a = " + "{a=" * 5000,
        "[[namespaces]]\nname = 'a'\nsysctls." + ".".join(["a"] * 2000) + " = 1",
        ".".join(["a"] * 50_000) + " = 1",
        "[[port_forwards]]\nnamespace='host'\nport = " + "9" * 5000 + "\nto = 'blue:80'",
        "[[bridges]]\nname='b'\nmtu = 0x" + "f" * 5000,
        "[[port_forwards]]\nnamespace='host'\nport = 80\nto = 'blue:" + "9" * 5000 + "'",
        "[[routes]]\nnamespace='host'\ndestination='default'\nvia = 'blue:" + "9" * 5000 + "'",
        "[[namespaces]]\nname='a'\nsysctls = {'net.ipv4.ip_forward' = 0x" + "f" * 5000 + "}",
    ],
    ids=lambda text: text[:30],
)
def test_any_text_is_refused_as_a_topology(text: str) -> None:
    """For any text, its mistakes are reported as such, and soon."""
    with pytest.raises(InvalidTopologyError, match="cannot use this topology: 1 mistake"):
        Topology.loads(text)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors begin a file with one."""
    path = tmp_path / "t.toml"
    path.write_text("\ufeff[[namespaces]]\nname = 'red'\n", encoding="utf-8")
    assert Topology.from_toml(path).namespace_names == ("red",)
