"""Firewalls: which packets may pass a namespace, or get into it or out of it; pure."""

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
_NOWHERE = {4: "240.0.0.0", 6: "100::"}  # nobody has these: RFC 1112 section 4, RFC 6666
RULES = "rules"  # the chain that a user's rules are in
# Without these no address of IPv6 is found: RFC 4890 section 4.4.1.
_NEIGHBOUR_DISCOVERY = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
)


def _choice(choices: Sequence[str], what: str) -> Kind:
    return Kind(lambda value: parse_choice(value, choices, what), {"enum": list(choices), "examples": [choices[0]]})


@dataclass(frozen=True, init=False)
class FirewallRuleSpec(Part):
    """What happens to packets that match all that is given.

    Attributes:
        verdict: ``"accept"``, ``"drop"``, or ``"reject"``: refused with an answer.
        source, destination: addresses, networks or names of namespaces; any where none are given.
        protocol: such as ``"tcp"``; any where none are given, with ``port`` tcp and udp.
        port: ports or ranges of the destination.
        incoming, outgoing: the interfaces they come and leave by.
        log: whether to keep what it matched.
    """

    verdict: str = field(metadata=one("verdict", _choice(VERDICTS, "verdict"), "What happens to it.", REQUIRED))
    source: tuple[IPNetwork | str, ...] = field(metadata=many("source", keys.PLACE, "Where it comes from."))
    destination: tuple[IPNetwork | str, ...] = field(metadata=many("destination", keys.PLACE, "Where it goes to."))
    protocol: tuple[str, ...] = field(metadata=many("protocol", _choice(PROTOCOLS, "protocol"), "Its protocol."))
    port: tuple[Ports, ...] = field(metadata=many("port", keys.PORTS, "The destination's port, or a range."))
    incoming: tuple[str, ...] = field(metadata=many("incoming", keys.DEVICE, "The interface it comes by."))
    outgoing: tuple[str, ...] = field(metadata=many("outgoing", keys.DEVICE, "The interface it leaves by."))
    log: bool = field(metadata=one("log", keys.FLAG, "Whether to keep what it matched.", False))

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
    def words(self) -> str:
        """What a drawing says of it: ``accept tcp 443 from red to blue``."""
        parts = [self.verdict, "+".join(self.protocol), ", ".join(map(str, self.port))]
        for word, given in (("from", self.source), ("to", self.destination)):
            shown = ", ".join(each if isinstance(each, str) else network(each) for each in given)
            parts.append(f"{word} {shown}" if shown else "")
        parts += [f"in by {', '.join(self.incoming)}" if self.incoming else ""]
        parts += [f"out by {', '.join(self.outgoing)}" if self.outgoing else ""]
        return " ".join(filter(None, parts)) + (", logged" if self.log else "")


@dataclass(frozen=True, init=False)
class FirewallSpec(Part):
    """A firewall: what its rules do not decide is up to its policy.

    Attributes:
        namespace: where it is.
        policy: ``"accept"``, ``"drop"`` or ``"reject"``.
        hook: ``"forward"`` for what passes, ``"input"`` and ``"output"`` for the namespace's own.
        stateful: whether answers to what was accepted, and errors about it, are accepted by themselves.
        rules: in order; the first that matches decides.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace it is in.", REQUIRED))
    policy: str = field(metadata=one("policy", _choice(VERDICTS, "policy"), "What no rule decides.", "drop"))
    hook: str = field(metadata=one("hook", _choice(HOOKS, "hook"), "Which packets it is for.", "forward"))
    stateful: bool = field(metadata=one("stateful", keys.FLAG, "Whether answers are accepted by themselves.", True))
    rules: tuple[FirewallRuleSpec, ...] = field(
        metadata=many("rules", FirewallRuleSpec, "In order; the first that matches decides.")
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
    def words(self) -> str:
        """What a drawing says of it."""
        return f"firewall, {self.hook}: {self.policy} by default" + ("" if self.stateful else ", stateless")

    def notes(self) -> Iterator[Note]:
        """Its policy, and its rules."""
        yield Note(self.namespace, self.words)
        yield from (Note(self.namespace, f"firewall, {self.hook}: {rule.words}") for rule in self.rules)


def mistakes(rule: FirewallRuleSpec, hook: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a rule by itself: each with the key it is about."""
    without = [each for each in rule.protocol if each not in _WITH_PORTS]
    if rule.port and without:
        yield "port", f"cannot use a port with protocol {without[0]!r}: {', '.join(map(repr, _WITH_PORTS))} have ports"
    for key, hook_without in (("incoming", "output"), ("outgoing", "input")):
        if getattr(rule, key) and hook == hook_without:
            yield key, f"cannot use {key} with hook {hook!r}: it is this namespace itself; leave it out"


@dataclass(frozen=True)
class FirewallTable(Table):
    """A firewall's own table.

    Attributes:
        spec: what the user wrote.
    """

    spec: FirewallSpec

    @property
    def words(self) -> str:
        """What a drawing says of it."""
        return self.spec.words

    def table(self, name: str, comment: str) -> str:
        """The nft text: what is always accepted, the user's rules, what happens to the rest."""
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
    """What the doctor tries: the nft text of a firewall that rejects, with a rule that logs."""
    rule = FirewallRuleSpec("accept", protocol="tcp", port=443, log=True)
    table = FirewallTable(FirewallSpec("gw", policy="reject"))
    rules = FirewallFilter(rule, "probe", table.spec.hook, None, None, group=1).rules()
    return table.table("probe", "") + "".join(
        f"add rule inet {each.table} {each.chain} {each.text}\n" for each in rules
    )


def rejections() -> list[str]:
    """What a firewall says that refuses: a reset to TCP, and that it is prohibited to others (RFC 7126, RFC 4890)."""
    return ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]


@dataclass(frozen=True)
class FirewallFilter(Translation):
    """A rule of a firewall.

    Attributes:
        spec: what the user wrote.
        table: the firewall's table.
        sources, destinations: the addresses that its names lead to; None for any.
        group: of the log that keeps what it matched; None for none.
    """

    spec: FirewallRuleSpec
    table: str
    hook: str
    sources: tuple[IPNetwork, ...] | None
    destinations: tuple[IPNetwork, ...] | None
    group: int | None

    @property
    def words(self) -> str:
        """What a drawing says of it."""
        return f"firewall, {self.hook}: {self.spec.words}"

    def rules(self) -> Iterator[RuleText]:
        """One for both families where no addresses are given, else one for each."""
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
                own = [network(each) for each in given if each.version == version]
                if not own and self._has_names:
                    own = [_NOWHERE[version]]  # so that the rule keeps its place until there is an address
                if not own:
                    break
                text += _set(f"{family(version)} {side}", own)
            else:
                yield f"{of_family(version)} {text}{common}"


def _spread(protocols: Sequence[str]) -> list[str]:
    return [*protocols, *(["icmpv6"] if "icmp" in protocols else [])]


def _set(what: str, values: Sequence[str]) -> str:
    if not values:
        return ""
    return f"{what} {values[0] if len(values) == 1 else '{ ' + ', '.join(dict.fromkeys(values)) + ' }'} "
