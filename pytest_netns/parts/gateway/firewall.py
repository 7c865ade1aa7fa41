"""Firewalls: filters for forwarded, incoming and outgoing packets of a namespace; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway.nftext import RuleText, Table, Translation, family, network, of_family
from pytest_netns.parts.keys import REQUIRED, Kind, Part, many, one
from pytest_netns.values import IPAddress, IPNetwork, Ports, parse_choice
from pytest_netns.values.notes import Note

VERDICTS = ("accept", "drop", "reject")
HOOKS = ("forward", "input", "output")
PROTOCOLS = ("tcp", "udp", "icmp", "sctp", "dccp", "udplite", "esp", "ah", "gre")
_WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
_NOWHERE = {4: "240.0.0.0", 6: "100::"}  # unused addresses: RFC 1112 section 4, RFC 6666
RULES = "rules"  # the chain of the user's rules
# Required for IPv6 address resolution: RFC 4890 section 4.4.1.
_NEIGHBOUR_DISCOVERY = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
)


def _choice(choices: Sequence[str], what: str) -> Kind:
    return Kind(lambda value: parse_choice(value, choices, what), {"enum": list(choices), "examples": [choices[0]]})


@dataclass(frozen=True, init=False)
class FirewallRuleSpec(Part):
    """A firewall rule: a verdict for packets that match all criteria.

    Attributes:
        verdict: ``"accept"``, ``"drop"`` (silently) or ``"reject"`` (with an error to the sender).
        source, destination: addresses, networks or names of namespaces; default: any.
        protocol: protocols such as ``"tcp"``; default: any, or tcp and udp with ``port``.
        port: destination ports or ranges.
        incoming, outgoing: the interfaces by which packets arrive and leave.
        log: whether to record the packets it matches.
    """

    verdict: str = field(metadata=one("verdict", _choice(VERDICTS, "verdict"), "The verdict on a packet.", REQUIRED))
    source: tuple[IPNetwork | str, ...] = field(metadata=many("source", keys.PLACE, "Its source."))
    destination: tuple[IPNetwork | str, ...] = field(metadata=many("destination", keys.PLACE, "Its destination."))
    protocol: tuple[str, ...] = field(metadata=many("protocol", _choice(PROTOCOLS, "protocol"), "Its protocol."))
    port: tuple[Ports, ...] = field(metadata=many("port", keys.PORTS, "The destination port, or a range."))
    incoming: tuple[str, ...] = field(metadata=many("incoming", keys.DEVICE, "The interface by which it arrives."))
    outgoing: tuple[str, ...] = field(metadata=many("outgoing", keys.DEVICE, "The interface by which it leaves."))
    log: bool = field(metadata=one("log", keys.FLAG, "Whether to record the packets it matches.", False))

    def __init__(
        self,
        verdict: str,
        *,
        source: str | IPNetwork | IPAddress | Iterable[str | IPNetwork | IPAddress] = (),
        destination: str | IPNetwork | IPAddress | Iterable[str | IPNetwork | IPAddress] = (),
        protocol: str | Iterable[str] = (),
        port: int | str | Ports | range | Iterable[int | str | Ports | range] = (),
        incoming: str | Iterable[str] = (),
        outgoing: str | Iterable[str] = (),
        log: bool = False,
    ) -> None:
        self._fill(
            verdict=verdict,
            source=source,
            destination=destination,
            protocol=protocol,
            port=(port,) if isinstance(port, range) else port,
            incoming=incoming,
            outgoing=outgoing,
            log=log,
        )

    @property
    def description(self) -> str:
        """Its description in drawings: ``accept tcp 443 from red to blue``."""
        parts = [self.verdict, "+".join(self.protocol), ", ".join(map(str, self.port))]
        for word, given in (("from", self.source), ("to", self.destination)):
            shown = ", ".join(each if isinstance(each, str) else network(each) for each in given)
            parts.append(f"{word} {shown}" if shown else "")
        parts += [f"in by {', '.join(self.incoming)}" if self.incoming else ""]
        parts += [f"out by {', '.join(self.outgoing)}" if self.outgoing else ""]
        return " ".join(filter(None, parts)) + (", logged" if self.log else "")


@dataclass(frozen=True, init=False)
class FirewallSpec(Part):
    """A firewall: the policy applies to packets that no rule matches.

    Attributes:
        namespace: the namespace it is in.
        policy: ``"accept"``, ``"drop"`` or ``"reject"``.
        hook: ``"forward"`` for forwarded packets, ``"input"`` and ``"output"`` for packets to and from the namespace.
        stateful: whether replies to accepted packets, and ICMP errors about them, are accepted.
        rules: the rules in order; the first match decides.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace it is in.", REQUIRED))
    policy: str = field(
        metadata=one("policy", _choice(VERDICTS, "policy"), "The verdict on packets that no rule matches.", "drop")
    )
    hook: str = field(metadata=one("hook", _choice(HOOKS, "hook"), "The packets it applies to.", "forward"))
    stateful: bool = field(
        metadata=one("stateful", keys.FLAG, "Whether replies to accepted packets are accepted.", True)
    )
    rules: tuple[FirewallRuleSpec, ...] = field(
        metadata=many("rules", FirewallRuleSpec, "The rules in order; the first match decides.")
    )

    def __init__(
        self,
        namespace: str,
        *,
        policy: str = "drop",
        hook: str = "forward",
        stateful: bool = True,
        rules: Iterable[FirewallRuleSpec] = (),
    ) -> None:
        self._fill(namespace=namespace, policy=policy, hook=hook, stateful=stateful, rules=rules)

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"firewall, {self.hook}: {self.policy} by default" + ("" if self.stateful else ", stateless")

    def notes(self) -> Iterator[Note]:
        """Its policy, and its rules."""
        yield Note(self.namespace, self.description)
        yield from (Note(self.namespace, f"firewall, {self.hook}: {rule.description}") for rule in self.rules)


def mistakes(rule: FirewallRuleSpec, hook: str) -> Iterator[tuple[str, str]]:
    """The mistakes in a single rule, each with its key."""
    without = [each for each in rule.protocol if each not in _WITH_PORTS]
    if rule.port and without:
        yield "port", f"cannot use a port with protocol {without[0]!r}: {', '.join(map(repr, _WITH_PORTS))} have ports"
    for key, hook_without in (("incoming", "output"), ("outgoing", "input")):
        if getattr(rule, key) and hook == hook_without:
            yield key, f"cannot use {key} with hook {hook!r}: that is this namespace itself; leave it out"


@dataclass(frozen=True)
class FirewallTable(Table):
    """The nft table of a firewall.

    Attributes:
        spec: the user's specification.
    """

    spec: FirewallSpec

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return self.spec.description

    def table(self, name: str, comment: str) -> str:
        """The nft text: packets that are always accepted, the user's rules, the policy."""
        hook = self.spec.hook
        lines: list[str] = []
        if self.spec.stateful:
            lines.append("ct state established,related accept")
        if hook != "forward":
            lines += [f"{'iifname' if hook == 'input' else 'oifname'} lo accept", _NEIGHBOUR_DISCOVERY]
        lines.append(f"jump {RULES}")
        lines += ["counter " + each for each in rejections()] if self.spec.policy == "reject" else ["counter"]
        policy = "accept" if self.spec.policy == "accept" else "drop"
        rules = "".join(f"    {line} {comment}\n" for line in lines)
        return (
            f"table inet {name} {{\n  chain {RULES} {{ }}\n  chain {hook} {{\n"
            f"    type filter hook {hook} priority 0; policy {policy};\n{rules}  }}\n}}\n"
        )


def example() -> str:
    """The doctor's test: the nft text of a firewall that rejects, with a rule that logs."""
    rule = FirewallRuleSpec("accept", protocol="tcp", port=443, log=True)
    table = FirewallTable(FirewallSpec("gw", policy="reject"))
    rules = FirewallFilter(rule, "probe", table.spec.hook, None, None, group=1).rules()
    return table.table("probe", "") + "".join(
        f"add rule inet {each.table} {each.chain} {each.text}\n" for each in rules
    )


def rejections() -> list[str]:
    """The nft statements for reject: a TCP reset, or ICMP "administratively prohibited" (RFC 7126, RFC 4890)."""
    return ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]


@dataclass(frozen=True)
class FirewallFilter(Translation):
    """A rule of a firewall.

    Attributes:
        spec: the user's specification.
        table: the firewall's table.
        sources, destinations: its addresses, with names resolved; None for any.
        group: the log group for the packets it matches; None for none.
    """

    spec: FirewallRuleSpec
    table: str
    hook: str
    sources: tuple[IPNetwork, ...] | None
    destinations: tuple[IPNetwork, ...] | None
    group: int | None

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"firewall, {self.hook}: {self.spec.description}"

    def rules(self) -> Iterator[RuleText]:
        """One rule for both families if there are no addresses, else one for each."""
        log = f"log group {self.group} snaplen 65535 queue-threshold 1 " if self.group is not None else ""
        for match in self._matches():
            if self.spec.verdict != "reject":
                yield RuleText(RULES, f"{match}counter {log}{self.spec.verdict}", self.table)
                continue
            tcp, others = rejections()
            if not self.spec.protocol or "tcp" in self.spec.protocol:
                yield RuleText(RULES, f"{match}meta l4proto tcp counter {log}{tcp.split(' tcp ', 1)[1]}", self.table)
            if self.spec.protocol != ("tcp",):
                yield RuleText(RULES, f"{match}counter {log}{others}", self.table)

    @property
    def _has_names(self) -> bool:
        return any(isinstance(each, str) for each in (*self.spec.source, *self.spec.destination))

    def _matches(self) -> Iterator[str]:
        spec = self.spec
        common = _set("iifname", [f'"{each}"' for each in spec.incoming])
        common += _set("oifname", [f'"{each}"' for each in spec.outgoing])
        protocols = spec.protocol or (("tcp", "udp") if spec.port else ())
        common += _set("meta l4proto", ["icmp", "icmpv6"] if protocols == ("icmp",) else _spread(protocols))
        common += _set("th dport", list(map(str, spec.port)))
        if self.sources is None and self.destinations is None:
            yield common
            return
        for version in (4, 6):
            text = ""
            for side, given in (("saddr", self.sources), ("daddr", self.destinations)):
                if given is None:
                    continue
                networks = [network(each) for each in given if each.version == version]
                if not networks and self._has_names:
                    networks = [_NOWHERE[version]]  # so that the rule keeps its position until the name has an address
                if not networks:
                    break
                text += _set(f"{family(version)} {side}", networks)
            else:
                yield f"{of_family(version)} {text}{common}"


def _spread(protocols: Sequence[str]) -> list[str]:
    return [*protocols, *(["icmpv6"] if "icmp" in protocols else [])]


def _set(what: str, values: Sequence[str]) -> str:
    if not values:
        return ""
    return f"{what} {values[0] if len(values) == 1 else '{ ' + ', '.join(dict.fromkeys(values)) + ' }'} "
