"""The common base of all gateway rules: their nft tables and chains, and their nft text; pure.

Address translation is in the table ``inet netns``, its counters are in ``inet netns_counters``: nat chains see only the
first packet of a connection, and the kernel checks a whole table for each rule that is added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pytest_netns.values import IPAddress, IPNetwork, PortRange

TABLE, COUNTERS = "netns", "netns_counters"
TABLES = (TABLE, COUNTERS)
# The chains that rules are added to, and their tables; the first chain that translates a connection decides.
FORWARDS, MAPPINGS, SNATS, MASQUERADES, COUNTED = "forwards", "mappings", "snats", "masquerades", "counted"
TABLE_OF = {FORWARDS: TABLE, MAPPINGS: TABLE, SNATS: TABLE, MASQUERADES: TABLE, COUNTED: COUNTERS}
TRANSLATES_DESTINATIONS = (FORWARDS, MAPPINGS)
FRAME_COMMENT = "netns"  # the comment of the rules that jump to those chains
FRAME_RULES, DESTINATIONS_RULES, PORTS_MAP_RULES = 3, 6, 2  # the numbers of such rules
_MAX_COMMENT = 127  # bytes, NFTNL_UDATA_COMMENT_MAXLEN


class Forwarded(NamedTuple):
    """The match and the target of a simple port forward, which can be added without nft.

    Attributes:
        ports: the first and the last port.
        limits: ``"saddr"`` and ``"daddr"``, with their networks.
        target: the address, and the port there (None for the same); None for a rule that counts.
    """

    version: int
    protocol: str
    ports: tuple[int, int]
    limits: tuple[tuple[str, IPNetwork], ...]
    target: tuple[IPAddress, int | None] | None


class Masqueraded(NamedTuple):
    """The match of a masquerade, which can be added without nft: the network behind the gateway, and the interface.

    Attributes:
        counts: whether it is for the rule that counts, not for the one that translates.
    """

    network: IPNetwork
    out: str | None
    counts: bool


class MappedPort(NamedTuple):
    """A port forwarded to another, for all clients and at all addresses: an element of the map from `ports_map`."""

    protocol: str
    version: int
    port: int
    address: IPAddress
    target: int

    @property
    def map(self) -> str:
        """The name of the map that translates it, and of the set that counts it, each in its table."""
        return f"{self.protocol}{self.version}"

    def text(self, comment: str) -> str:
        """The nft text that adds its elements."""
        element = f'{self.port} comment "{comment}" : {self.address} . {self.target}'
        return (
            f"create element inet {TABLE} {self.map} {{ {element} }}\n"
            f"create element inet {COUNTERS} {self.map} {{ {self.port} }}\n"
        )

    def text_of_deletion(self) -> str:
        """The nft text that deletes its elements."""
        return "".join(f"delete element inet {table} {self.map} {{ {self.port} }}\n" for table in TABLES)


class RuleText(NamedTuple):
    """A rule as nft text, its chain, and that chain's table unless it is in `TABLES`."""

    chain: str
    text: str
    table: str = ""


class Chain(NamedTuple):
    """A chain of `FRAME`.

    Attributes:
        type, priority: of the postrouting hook; an empty type for a chain that only others jump to.
        jumps: the chains it jumps to.
        for_translated: whether only packets of translated connections jump, in their original direction.
    """

    table: str
    name: str
    type: str = ""
    priority: int = 0
    jumps: tuple[str, ...] = ()
    for_translated: bool = False


FRAME = (
    Chain(TABLE, SNATS),
    Chain(TABLE, MASQUERADES),
    Chain(TABLE, "postrouting", "nat", 100, (SNATS, MASQUERADES)),
    Chain(COUNTERS, COUNTED),
    Chain(COUNTERS, "postrouting", "filter", 110, (COUNTED,), for_translated=True),
)


class Flow(NamedTuple):
    """A tracked connection, with the properties that rules for new connections match.

    Attributes:
        port: the destination port; 0 if the protocol has none.
        to_gateway: whether its destination is an address of the gateway itself.
        has_other_source, has_other_destination: whether its source or destination is already translated.
    """

    protocol: str
    source: IPAddress
    destination: IPAddress
    port: int
    to_gateway: bool
    has_other_source: bool
    has_other_destination: bool


class Effect:
    """The effect of a rule on forwarded packets."""

    @property
    def description(self) -> str:
        """Its description in drawings."""
        raise NotImplementedError

    @property
    def for_datagrams(self) -> bool:
        """Whether it translates more than TCP, whose established connections keep their translation."""
        return False

    @property
    def from_loopback(self) -> bool:
        """Whether it also applies to connections to 127.0.0.1."""
        return False

    def concerns(self, flow: Flow) -> bool:
        """Whether this rule changes the translation of an already tracked connection."""
        return False


class Translation(Effect):
    """A rule in a table that it shares with others."""

    def rules(self) -> Iterable[RuleText]:
        """The nft rules it consists of."""
        raise NotImplementedError

    def plain(self) -> Sequence[tuple[str, Forwarded | Masqueraded]]:
        """The same rules as values, each with its chain; none if they are too complex for that."""
        return ()


class Table(Effect):
    """A rule with its own table."""

    def table(self, name: str, comment: str) -> str:
        """The nft text of its table.

        Args:
            name: the table's name.
            comment: the comment of every rule in it.
        """
        raise NotImplementedError

    def sets(self) -> Sequence[str]:
        """The maps and sets with its learned mappings, each with its nft keyword."""
        return ()


def frame() -> str:
    """The nft text of the two tables with the chains that translate sources, without users' rules."""
    return "".join(f"table inet {each.table} {{\n  chain {each.name} {{\n{_body(each)}  }}\n}}\n" for each in FRAME)


def _body(chain: Chain) -> str:
    hook = f"    type {chain.type} hook postrouting priority {chain.priority}; policy accept;\n" if chain.type else ""
    condition = "ct direction original ct status snat,dnat " if chain.for_translated else ""
    return hook + "".join(f'    {condition}jump {each} comment "{FRAME_COMMENT}"\n' for each in chain.jumps)


def destinations() -> str:
    """The nft text that adds the chains that translate destinations to those of `frame`; many gateways need none."""
    comment = f'comment "{FRAME_COMMENT}"'
    # A client in the target's own network would get the reply directly from the target, and refuse it. For such clients
    # the packet leaves by the interface it arrived on, so that interface is recorded on input.
    return f"""table inet {TABLE} {{
  set hairpin {{ type ifname . ifname; size 4096; flags dynamic; }}
  chain {FORWARDS} {{ }}
  chain {MAPPINGS} {{ }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    update @hairpin {{ iifname . iifname }} fib daddr type local jump {FORWARDS} {comment}
    jump {MAPPINGS} {comment}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump {FORWARDS} {comment}
    jump {MAPPINGS} {comment}
  }}
}}
insert rule inet {TABLE} postrouting ct status dnat iifname . oifname @hairpin masquerade {comment}
insert rule inet {TABLE} postrouting ct status dnat ip saddr 127.0.0.0/8 masquerade {comment}
"""


def ports_map(protocol: str, version: int) -> str:
    """The nft text of the map of forwarded ports and the set that counts them, with the rules that use them."""
    name, comment = f"{protocol}{version}", f'comment "{FRAME_COMMENT}"'
    of = of_family(version)
    return f"""add map inet {TABLE} {name} {{ type inet_service : ipv{version}_addr . inet_service; }}
add rule inet {TABLE} {FORWARDS} {of} dnat {family(version)} addr . port to {protocol} dport map @{name} {comment}
add set inet {COUNTERS} {name} {{ type inet_service; counter; }}
add rule inet {COUNTERS} {COUNTED} {of} meta l4proto {protocol} ct status dnat ct original proto-dst @{name} {comment}
"""


def comment(identity: str, description: str) -> str:
    """A rule's comment: the identity by which it is found again, and a description for readers of the ruleset."""
    text = f"{identity}: {description}".replace('"', "'")
    encoded = text.encode()
    return text if len(encoded) <= _MAX_COMMENT else encoded[:_MAX_COMMENT].decode(errors="ignore")


def identity_of(comment: str) -> str:
    """The identity in a rule's comment."""
    return comment.partition(":")[0]


def family(version: int) -> str:
    """nft's word for an IP version."""
    return "ip" if version == 4 else "ip6"


def of_family(version: int) -> str:
    """A match of one IP version."""
    return f"meta nfproto ipv{version}"


def numbered_map(data: Iterable[object]) -> str:
    """An anonymous map from 0, 1, 2 ..."""
    return "{ " + ", ".join(f"{number} : {each}" for number, each in enumerate(data)) + " }"


def shifted_map(ports: PortRange, first: int) -> str:
    """An anonymous map from ports to as many from another one on."""
    return "{ " + ", ".join(f"{ports.first + n} : {first + n}" for n in range(ports.size)) + " }"


def out_by(interface: str | None) -> str:
    """A match of the interface that packets leave by; empty for any."""
    return f'oifname "{interface}" ' if interface is not None else ""


def network(value: IPNetwork) -> str:
    """A network, or its one address, as nft writes it."""
    return str(value.network_address) if value.num_addresses == 1 else str(value)
