"""The nft table of a device's NAT: the mappings it learns for each endpoint, and the rules that use them; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_netns.parts.gateway.nat import (
    ADDRESS_AND_PORT_DEPENDENT,
    ADDRESS_DEPENDENT,
    ENDPOINT_INDEPENDENT,
    KINDS,
    NatKind,
    describe,
)
from pytest_netns.parts.gateway.nftext import Flow, Table, family, network, numbered_map, of_family
from pytest_netns.values import IPNetwork

_TCP_TIMEOUT = 240  # seconds, for TCP connections that are not established: RFC 5382 section 5
_PRIORITY_IN, _PRIORITY_OUT = -99, 99  # after port forwards, before masquerades
_SIZE = 65535
_SHORT = 1024  # ports


@dataclass(frozen=True)
class Natting(Table):
    """A network behind an outer address, by a kind of NAT.

    Attributes:
        source: the network behind it.
        out: the interface of its outer side.
        kind: the kind of NAT.
    """

    source: IPNetwork
    out: str
    kind: NatKind

    @property
    def for_datagrams(self) -> bool:
        """Every protocol."""
        return True

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return describe(self.source, self.out, self.kind)

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from the network, or is translated on input."""
        return flow.source in self.source or flow.has_other_destination

    def sets(self) -> list[str]:
        """The maps and sets with its learned mappings, each with its nft keyword."""
        return ["map outer", *(f"{'map' if ':' in kind else 'set'} {name}" for name, kind, _ in self._learnt())]

    def table(self, name: str, comment: str) -> str:
        """The nft text of its table.

        Args:
            name: the table's name.
            comment: the comment of every rule.
        """
        marking: list[str] = []
        if self._marked:
            hook = f"filter hook postrouting priority {_PRIORITY_OUT - 1}"
            marking.append(self._chain("marking", hook, self._marking()))
        chains = [
            self._chain("timeouts", f"filter hook prerouting priority {_PRIORITY_IN - 1}", self._timeouts(name)),
            self._chain("incoming", f"nat hook prerouting priority {_PRIORITY_IN}", self._incoming()),
            self._chain("unsolicited", f"filter hook prerouting priority {_PRIORITY_IN + 9}", self._unsolicited()),
            *marking,
            self._chain("outgoing", f"nat hook postrouting priority {_PRIORITY_OUT}", self._outgoing()),
            self._chain("learning", f"filter hook postrouting priority {_PRIORITY_OUT + 3}", self._learning()),
        ]
        rules = "\n".join(chain.replace(" ;;", f" {comment}") for chain in chains)
        return f"table inet {name} {{\n{self._timeout_object()}{''.join(self._declare())}{rules}\n}}\n"

    @staticmethod
    def _chain(name: str, hook: str, rules: Iterator[str]) -> str:
        lines = "".join(f"    {rule} ;;\n" for rule in rules)
        return f"  chain {name} {{\n    type {hook}; policy accept;\n{lines}  }}"

    # -- what it learns -------------------------------------------------------------------------------

    @property
    def _ip(self) -> str:
        return family(self.source.version)

    @property
    def _address(self) -> str:
        return f"ipv{self.source.version}_addr"

    def _learnt(self) -> Iterator[tuple[str, str, str]]:
        """Its maps and sets: name, type, and protocol.

        In nft 1.0.6 neither side of a map that is written to may be longer than 16 bytes: it crashes, or writes nonsense.
        """
        for protocol in ("udp", "tcp"):
            inner = "mark" if self._marked else f"inet_service . {self._address}"
            if self.kind.mapping != ADDRESS_AND_PORT_DEPENDENT:
                yield f"inside_{protocol}", f"{inner} : inet_service", protocol
            yield f"outside_{protocol}", f"inet_service : {self._address}", protocol
            yield f"outside_ports_{protocol}", "inet_service : inet_service", protocol
            yield f"pairs_{protocol}", f"inet_service . {self._address} . inet_service", protocol
            yield f"peers_{protocol}", f"inet_service . {self._address}", protocol

    def _declare(self) -> Iterator[str]:
        """inside: outer ports by inner endpoint; outside: the reverse; pairs: both; peers: the permitted sources."""
        yield f"  map outer {{ type nf_proto : {self._address}; flags dynamic; size 1; }}\n"
        for name, kind, protocol in self._learnt():
            what = "map" if ":" in kind else "set"
            options = f"flags dynamic,timeout; size {_SIZE}; timeout {self._seconds(protocol)}s;"
            yield f"  {what} {name} {{ type {kind}; {options} }}\n"

    def _seconds(self, protocol: str) -> int:
        return self.kind.timeout if protocol == "udp" else max(self.kind.timeout, _TCP_TIMEOUT)

    def _learning(self) -> Iterator[str]:
        """After translation: record the outer port of an inner endpoint."""
        ip, kind = self._ip, self.kind
        shared = kind.mapping == kind.filtering == ADDRESS_AND_PORT_DEPENDENT
        leaving = f'{of_family(self.source.version)} oifname "{self.out}"'
        yield f"{leaving} ct direction original ct original {ip} saddr {network(self.source)} ct status snat counter"
        # For a connection that this NAT has let in, replies keep the mapping alive; their source is the inner endpoint.
        for direction in ("original",) if kind.filtering == ADDRESS_AND_PORT_DEPENDENT else ("original", "reply"):
            address, port = f"ct {direction} {ip} saddr", f"ct {direction} proto-src"
            mine = f"{leaving} ct direction {direction} {address} {network(self.source)}"
            for protocol in ("udp", "tcp"):
                match, outer = f"{mine} meta l4proto {protocol}", f"{protocol} sport"
                pair = f"{outer} . {address} . {port}"
                if direction == "reply":
                    match = f"{match} {pair} @pairs_{protocol}"
                elif not shared:
                    # The port belongs to another inner endpoint: the next packet tries another port.
                    yield f"{match} ct state new {pair} != @pairs_{protocol} {outer} @outside_{protocol} drop"
                if not shared:
                    yield f"{match} update @pairs_{protocol} {{ {pair} }}"
                if kind.mapping != ADDRESS_AND_PORT_DEPENDENT:
                    inner = "meta mark" if self._marked else f"{port} . {address}"
                    yield f"{match} update @inside_{protocol} {{ {inner} : {outer} }}"
                yield f"{match} update @outside_{protocol} {{ {outer} : {address} }}"
                yield f"{match} update @outside_ports_{protocol} {{ {outer} : {port} }}"
                if kind.filtering == ADDRESS_DEPENDENT:
                    yield f"{match} update @peers_{protocol} {{ {outer} . {ip} daddr }}"
        if kind.hairpin:
            yield f"{leaving} ct status snat update @outer {{ meta nfproto : {ip} saddr }}"

    # -- what it does ---------------------------------------------------------------------------------

    def _outgoing(self) -> Iterator[str]:
        """The outer port that an endpoint already has, else its own port if free, else another one."""
        ip, kind = self._ip, self.kind
        leaving = f'oifname "{self.out}" {ip} saddr {network(self.source)}'
        for protocol in ("udp", "tcp"):
            match = f"{leaving} meta l4proto {protocol}"
            sport = f"{protocol} sport"
            if kind.mapping != ADDRESS_AND_PORT_DEPENDENT:
                yield f"{match} masquerade to :{self._endpoint(protocol)} map @inside_{protocol}"
            if kind.mapping == ENDPOINT_INDEPENDENT:
                yield f"{match} {sport} {kind.ports} {sport} != @outside_{protocol} masquerade"
            yield f"{match} masquerade to :{self._another_port()}"
        yield f"{leaving} masquerade"
        if kind.hairpin:
            back = f"{ip} saddr {network(self.source)} {ip} daddr {network(self.source)} ct status dnat"
            if kind.mapping == ENDPOINT_INDEPENDENT:
                for protocol in ("udp", "tcp"):
                    mapped = f"{self._endpoint(protocol)} map @inside_{protocol}"
                    yield f"{back} meta l4proto {protocol} snat {ip} to meta nfproto map @outer : {mapped}"
            yield f"{back} masquerade"

    def _endpoint(self, protocol: str) -> str:
        """An inner endpoint, on its way out."""
        return "meta mark" if self._marked else f"{protocol} sport . {self._ip} saddr"

    @property
    def _marked(self) -> bool:
        return self.kind.mapping == ADDRESS_DEPENDENT or (
            self.kind.mapping == ENDPOINT_INDEPENDENT and self.source.version == 6
        )

    def _another_port(self) -> str:
        """A port for an endpoint that has none; from a short range, which may be nearly used up, in turn."""
        ports = self.kind.ports
        if self.kind.mapping == ADDRESS_AND_PORT_DEPENDENT or ports.size > _SHORT:
            return f"{ports} fully-random"
        return f"numgen inc mod {ports.size} map {numbered_map(range(ports.first, ports.last + 1))}"

    def _marking(self) -> Iterator[str]:
        """A mark for each inner endpoint, or for endpoint and destination, since map keys are limited to 16 bytes, see `_learnt`."""
        ip = self._ip
        to = f" . {ip} daddr" if self.kind.mapping == ADDRESS_DEPENDENT else ""
        for protocol in ("udp", "tcp"):
            endpoint = f"{ip} saddr . {protocol} sport{to}"
            yield (
                f"{ip} saddr {network(self.source)} meta l4proto {protocol} "
                f"meta mark set jhash {endpoint} mod {2**32 - 1}"
            )

    def _incoming(self) -> Iterator[str]:
        """Let in packets to mapped ports from permitted sources."""
        ip = self._ip
        for protocol in ("udp", "tcp"):
            port = f"{protocol} dport"
            lead = f"dnat {ip} to {port} map @outside_{protocol} : {port} map @outside_ports_{protocol}"
            match = f"{of_family(self.source.version)} fib daddr type local meta l4proto {protocol}"
            if self.kind.filtering == ENDPOINT_INDEPENDENT:
                yield f'iifname "{self.out}" {match} {lead}'
            elif self.kind.filtering == ADDRESS_DEPENDENT:
                yield f'iifname "{self.out}" {match} {port} . {ip} saddr @peers_{protocol} {lead}'
            if self.kind.hairpin:
                yield f'iifname != "{self.out}" {ip} saddr {network(self.source)} {match} {lead}'

    def _unsolicited(self) -> Iterator[str]:
        """Drop unsolicited packets before connection tracking assigns their port to them."""
        ip = self._ip
        new = f'{of_family(self.source.version)} iifname "{self.out}" ct state new'
        yield f"{new} ct status dnat accept"
        for protocol in ("udp", "tcp"):
            yield f"{new} {protocol} dport @outside_{protocol} drop"
        # The same for ports that may be mapped later, unless the gateway itself has a socket there.
        yield f"{new} fib daddr type local udp dport {self.kind.ports} socket wildcard {{ 0, 1 }} accept"
        yield f"{new} fib daddr type local udp dport {self.kind.ports} drop"
        yield f"{new} {ip} daddr {network(self.source)} drop"

    def _timeout_object(self) -> str:
        seconds = self.kind.timeout
        l3 = "ip" if self.source.version == 4 else "ip6"
        return (
            f"  ct timeout unused_udp {{ protocol udp; l3proto {l3}; "
            f"policy = {{ unreplied : {seconds}, replied : {seconds} }}; }}\n"
        )

    def _timeouts(self, table: str) -> Iterator[str]:
        ip = self._ip
        yield f'{ip} saddr {network(self.source)} meta l4proto udp ct timeout set "unused_udp"'
        yield f'iifname "{self.out}" {of_family(self.source.version)} meta l4proto udp ct timeout set "unused_udp"'


def example() -> str:
    """The doctor's test: the nft text of a home router."""
    return Natting(ipaddress.ip_network("192.168.15.0/24"), "wan", KINDS["home"]).table("probe", "")
