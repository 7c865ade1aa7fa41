"""What all rules of a gateway have in common: where they are in nft's tables, and how they are written; pure.

Address translation is in the table ``inet netns``, what it counts in ``inet netns_counters``: rules of type nat see only
the first packet of a connection, and the kernel checks a whole table with each rule that is added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pytest_netns.values import IPAddress, IPNetwork, PortRange

TABLE, COUNTERS = "netns", "netns_counters"
TABLES = (TABLE, COUNTERS)
# The chains that rules are added to, and their tables; the first that translates a connection decides.
FORWARDS, MAPPINGS, SNATS, MASQUERADES, COUNTED = "forwards", "mappings", "snats", "masquerades", "counted"
TABLE_OF = {FORWARDS: TABLE, MAPPINGS: TABLE, SNATS: TABLE, MASQUERADES: TABLE, COUNTED: COUNTERS}
FRAME_COMMENT = "netns"  # of the rules that lead to those chains
FRAME_RULES = 9
PORTS_MAP_RULES = 2
_MAX_COMMENT = 127  # bytes, NFTNL_UDATA_COMMENT_MAXLEN


class Forwarded(NamedTuple):
    """What a plain port forward matches, and where it leads, for who need not have nft read it.

    Attributes:
        ports: the first and the last.
        limits: ``"saddr"`` and ``"daddr"``, with the network they must be in.
        target: the address, and the port there (None for the same); None for a rule that counts.
    """

    version: int
    protocol: str
    ports: tuple[int, int]
    limits: tuple[tuple[str, IPNetwork], ...]
    target: tuple[IPAddress, int | None] | None


class MappedPort(NamedTuple):
    """A port that leads to another, for all clients and at all addresses: an element of the map `ports_map` makes."""

    protocol: str
    version: int
    port: int
    address: IPAddress
    target: int

    @property
    def map(self) -> str:
        """The map that translates it, and the set that counts it: both are called so, each in its table."""
        return f"{self.protocol}{self.version}"

    def text(self, comment: str) -> str:
        """What adds its elements, in nft's language."""
        element = f'{self.port} comment "{comment}" : {self.address} . {self.target}'
        return (
            f"create element inet {TABLE} {self.map} {{ {element} }}\n"
            f"create element inet {COUNTERS} {self.map} {{ {self.port} }}\n"
        )

    def text_of_deletion(self) -> str:
        """What deletes its elements."""
        return "".join(f"delete element inet {table} {self.map} {{ {self.port} }}\n" for table in TABLES)


class RuleText(NamedTuple):
    """A rule in nft's language, the chain it belongs to, and that chain's table where it is not one of `TABLES`."""

    chain: str
    text: str
    table: str = ""


class Flow(NamedTuple):
    """A tracked connection, as far as rules for new connections go.

    Attributes:
        port: of the destination; 0 where the protocol has none.
        to_gateway: whether its destination is an address of the gateway itself.
        has_other_source, has_other_destination: what is translated already.
    """

    protocol: str
    source: IPAddress
    destination: IPAddress
    port: int
    to_gateway: bool
    has_other_source: bool
    has_other_destination: bool


class Effect:
    """What a rule does to packets that pass."""

    @property
    def words(self) -> str:
        """What a drawing says of it."""
        raise NotImplementedError

    @property
    def for_datagrams(self) -> bool:
        """Whether it translates more than TCP, whose established connections stay as they are."""
        return False

    @property
    def from_loopback(self) -> bool:
        """Whether it is for connections to 127.0.0.1 too."""
        return False

    def concerns(self, flow: Flow) -> bool:
        """Whether a connection that is tracked already would be translated in another way with this rule, or without."""
        return False


class Translation(Effect):
    """A rule that has its place in a table beside others."""

    def rules(self) -> Iterable[RuleText]:
        """The nft rules it is made of."""
        raise NotImplementedError


class Table(Effect):
    """A rule that has a table of its own."""

    def table(self, name: str, comment: str) -> str:
        """The nft text of its table.

        Args:
            name: the table's.
            comment: what every rule of its own has.
        """
        raise NotImplementedError

    def sets(self) -> Sequence[str]:
        """Its maps and sets that hold what it has learnt, each with the word for what it is."""
        return ()


def frame() -> str:
    """The nft text of the two tables with their base chains, and no rules of users' in them."""
    comment = f'comment "{FRAME_COMMENT}"'
    # A client in the target's own network would get the answer straight from the target, and refuse it. Which clients
    # those are is seen by the packet leaving where it came from, so the interface is noted on the way in.
    return f"""table inet {TABLE} {{
  set hairpin {{ type ifname . ifname; size 4096; flags dynamic; }}
  chain {FORWARDS} {{ }}
  chain {MAPPINGS} {{ }}
  chain {SNATS} {{ }}
  chain {MASQUERADES} {{ }}
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
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ct status dnat iifname . oifname @hairpin masquerade {comment}
    ct status dnat ip saddr 127.0.0.0/8 masquerade {comment}
    jump {SNATS} {comment}
    jump {MASQUERADES} {comment}
  }}
}}
table inet {COUNTERS} {{
  chain {COUNTED} {{ }}
  chain postrouting {{
    type filter hook postrouting priority 110; policy accept;
    ct direction original ct status snat,dnat jump {COUNTED} {comment}
  }}
}}
"""


def ports_map(protocol: str, version: int) -> str:
    """The nft text of the map of ports that lead elsewhere and the set that counts them, with the rules that use them."""
    name, comment = f"{protocol}{version}", f'comment "{FRAME_COMMENT}"'
    of = of_family(version)
    return f"""add map inet {TABLE} {name} {{ type inet_service : ipv{version}_addr . inet_service; }}
add rule inet {TABLE} {FORWARDS} {of} dnat {family(version)} addr . port to {protocol} dport map @{name} {comment}
add set inet {COUNTERS} {name} {{ type inet_service; counter; }}
add rule inet {COUNTERS} {COUNTED} {of} meta l4proto {protocol} ct status dnat ct original proto-dst @{name} {comment}
"""


def comment(identity: str, words: str) -> str:
    """A rule's comment: the identity by which it is found again, and words for who reads the ruleset."""
    return f"{identity}: {words}".replace('"', "'").encode()[:_MAX_COMMENT].decode(errors="ignore")


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
