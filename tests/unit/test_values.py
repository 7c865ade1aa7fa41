"""Names, addresses, ports and targets are checked once, and errors list the valid values."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values import naming

NAMES = st.from_regex(values.NAME_PATTERN, fullmatch=True)


@given(namespace=NAMES, taken=st.sets(NAMES, max_size=5))
def test_automatic_names_are_valid_and_free(namespace: str, taken: set[str]) -> None:
    """Whatever a namespace's name, its automatic interface names are valid and free."""
    for choose in (naming.default_interface_name, naming.bridge_side_name):
        name = choose(namespace, taken)
        assert values.parse_interface_name(name) == name
        assert name not in taken
        assert choose(namespace, taken) == name


@given(namespace=NAMES)
def test_automatic_names_never_run_out(namespace: str) -> None:
    """Many interfaces in one namespace all get different names."""
    taken: set[str] = set()
    for _ in range(120):
        taken.add(naming.default_interface_name(namespace, taken))
        taken.add(naming.bridge_side_name(namespace, taken))
    assert len(taken) == 240
    assert max(map(len, taken)) <= values.MAX_NAME


def test_automatic_names_read_well() -> None:
    """A name that fits is veth-NAMESPACE, numbered from the second on; a long one keeps its beginning."""
    assert naming.default_interface_name("red", ()) == "veth-red"
    assert naming.default_interface_name("red", {"veth-red"}) == "veth-red-2"
    assert naming.default_interface_name("red", {"veth-red", "veth-red-2"}) == "veth-red-3"
    assert naming.bridge_side_name("red", ()) == "veth-red-br"
    assert naming.bridge_side_name("red", {"veth-red-br"}) == "veth-red-br-2"
    assert naming.default_interface_name("production-db-1", ()).startswith("veth-produc")


def test_long_names_that_begin_alike_stay_apart() -> None:
    """The bridge's ends for namespaces whose names differ only at the end have different names."""
    assert naming.bridge_side_name("production-db-1", ()) != naming.bridge_side_name("production-db-2", ())


@given(address=st.ip_addresses(), prefix=st.integers(0, 128))
def test_interface_addresses_are_kept_or_refused(address: values.IPAddress, prefix: int) -> None:
    """An interface address is parsed, or refused with the library's own error; parsing it again changes nothing."""
    try:
        parsed = values.parse_interface_address(f"{address}/{prefix}")
    except InvalidTopologyError as error:
        message = str(error)
    else:
        message = f"{parsed.ip}"
        assert parsed.network.prefixlen == prefix
        assert values.parse_interface_address(parsed) == parsed
    assert str(address) in message


@given(
    host=st.one_of(st.ip_addresses(), st.from_regex(r"[a-z][a-z0-9_.-]{0,14}", fullmatch=True)),
    port=st.one_of(st.none(), st.integers(1, 65535)),
)
def test_targets_survive_being_written(host: values.IPAddress | str, port: int | None) -> None:
    """A target written as text is parsed to the same target."""
    target = values.Target(host, port)
    assert values.parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("parse", "value", "hint"),
    [
        (values.parse_device_name, "sixteen-letters-", "1 to 15 characters"),
        (values.parse_name, "a" * 64, "1 to 63 characters"),
        (values.parse_name, "a b", "1 to 63 characters"),
        (values.parse_name, "$(id)", "1 to 63 characters"),
        (values.parse_interface_name, "lo", "the kernel reserves"),
        (values.parse_interface_name, "default", "the kernel reserves"),
        (values.parse_interface_address, "192.168.15.1", "prefix length"),
        (values.parse_interface_address, "192.168.15.0/24", "'192.168.15.1/24' would be valid"),
        (values.parse_interface_address, "192.168.15.255/24", "broadcast"),
        (values.parse_interface_address, "224.0.0.1/4", "not a unicast address"),
        (values.parse_interface_address, "fe80::1%eth0/64", "leave out '%eth0'"),
        (values.parse_address, "192.168.15.5/24", "without prefix length"),
        (values.parse_network, "192.168.15.1/24", "'192.168.15.0/24' would be valid"),
        (values.parse_port, 0, "1 to 65535"),
        (values.parse_port, True, "1 to 65535"),
        (values.parse_port, "80", "1 to 65535"),
        (values.parse_service_port, "udp/", "'udp/53'"),
        (values.parse_service_port, "sctp/53", "'udp/53'"),
        (values.parse_service_port, "/53", "'udp/53'"),
        (values.parse_service_port, 65536, "1 to 65535"),
        (values.parse_protocol, "upd", "did you mean 'udp'"),
        (values.parse_mtu, 67, "68 to 65535"),
        (values.parse_mac, "02:00:00:00:00", "six bytes"),
        (values.parse_mac, "01:00:5e:00:00:01", "not a unicast address"),
        (values.parse_mac, "00:00:00:00:00:00", "not a unicast address"),
        (values.parse_sysctl_name, "kernel.panic", "below 'net'"),
        (values.parse_sysctl_name, "net/../kernel/panic", "below 'net'"),
        (values.parse_sysctl_name, "network.x", "below 'net'"),
        (values.parse_sysctl_value, "1\n2", "one line"),
        (values.parse_sysctl_value, "", "one line"),
        (values.parse_sysctl_value, 1.5, "one line"),
        (values.parse_gateway, "192.168.15", "the name of a namespace"),
        (values.parse_gateway, "gw:80", "the name of a namespace"),
        (values.parse_gateway, "192.168.15.5/24", "the name of a namespace"),
        (values.parse_target, "192.168.15.300:80", "neither an address nor the name"),
        (values.parse_target, "blue:0", "1 to 65535"),
        (values.parse_target, values.Target("a;b", 80), "neither an address nor the name"),
    ],
)
def test_refusals_name_the_value_and_what_is_valid(parse: object, value: object, hint: str) -> None:
    """An invalid value is refused with the value itself and the valid ones."""
    with pytest.raises(InvalidTopologyError) as caught:
        parse(value)  # type: ignore[operator]
    assert str(getattr(value, "host", value)).replace("\n", "\\n") in str(caught.value)
    assert hint in str(caught.value)
    assert caught.value.problems == (str(caught.value),)


def test_what_is_accepted() -> None:
    """All forms of a value are parsed to the same value."""
    assert values.parse_service_port(8080) == ("tcp", 8080)
    assert values.parse_service_port("8080") == ("tcp", 8080)
    assert values.parse_service_port("udp/53") == ("udp", 53)
    assert values.parse_mac("02:AB:00:00:00:01") == "02:ab:00:00:00:01"
    assert [values.parse_sysctl_value(each) for each in (True, 1, "4096 87380\t1")] == ["1", "1", "4096 87380\t1"]
    assert values.parse_sysctl_name("net/ipv4/conf/eth0.5/rp_filter") == "net/ipv4/conf/eth0.5/rp_filter"
    assert values.parse_gateway("fd00::5") == ipaddress.ip_address("fd00::5")
    assert values.parse_gateway("gw") == "gw"
    assert values.parse_interface_address("10.0.0.0/31") == ipaddress.ip_interface("10.0.0.0/31")
    assert values.parse_interface_address("10.0.0.1/32") == ipaddress.ip_interface("10.0.0.1/32")


def test_long_lists_of_valid_names_are_cut() -> None:
    """A did-you-mean among hundreds of names shows the close one, not hundreds."""
    text = values.suggest("node-77x", [f"node-{n}" for n in range(300)])
    assert "did you mean 'node-77'?" in text
    assert "and 280 more" in text
