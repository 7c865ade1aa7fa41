"""Ready-made firewalls: those of home routers, hotels and broken paths; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_netns.parts.gateway.firewall import FirewallRuleSpec
from pytest_netns.parts.gateway.nftext import Flow, Table, family, network, of_family
from pytest_netns.values import IPAddress, IPNetwork


def _home(outside: str) -> list[FirewallRuleSpec]:
    """Everything out; replies in, and IPsec in, which has its own security: RFC 6092 sections 3.2.4 and 3.2.5."""
    return [
        FirewallRuleSpec("accept", outgoing=outside),
        FirewallRuleSpec("accept", protocol=("esp", "ah"), incoming=outside),
        FirewallRuleSpec("accept", protocol="udp", port=500, incoming=outside),
    ]


def _web_only(outside: str) -> list[FirewallRuleSpec]:
    """Only web and DNS, as in hotels and offices."""
    return [
        FirewallRuleSpec("accept", protocol="tcp", port=(80, 443), outgoing=outside),
        FirewallRuleSpec("accept", protocol="udp", port=53, outgoing=outside),
    ]


# Rules by the name that `Namespace.firewall` takes as ``like``; each takes the interface of the outer side.
POLICIES: dict[str, Callable[[str], list[FirewallRuleSpec]]] = {"home": _home, "web-only": _web_only}


@dataclass(frozen=True)
class TooBigBlock(Table):
    """Drop and do not send "packet too big": paths with a smaller MTU become black holes (RFC 2923 section 2.1)."""

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return "blocks ICMP packet too big"

    def table(self, name: str, comment: str) -> str:
        """The nft text for forwarded packets and for those the namespace itself sends."""
        rules = "".join(
            f"    {match} counter drop {comment}\n"
            for match in ("icmp type destination-unreachable icmp code frag-needed", "icmpv6 type packet-too-big")
        )
        chains = "".join(
            f"  chain {hook} {{\n    type filter hook {hook} priority -10; policy accept;\n{rules}  }}\n"
            for hook in ("forward", "output")
        )
        return f"table inet {name} {{\n{chains}}}\n"


@dataclass(frozen=True)
class Portal(Table):
    """A captive portal: until they are admitted, clients reach only the portal, whichever web page they request.

    Attributes:
        source: the network of the clients.
        addresses: the addresses of the portal's server.
        port: the server's port.
        shown: the portal as the user wrote it.
    """

    source: IPNetwork
    addresses: tuple[IPAddress, ...]
    port: int
    shown: str

    @property
    def for_datagrams(self) -> bool:
        """Every protocol."""
        return True

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"captive portal for {self.source} → {self.shown}"

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection is a client's."""
        return flow.source in self.source

    def table(self, name: str, comment: str) -> str:
        """The nft text: only web requests, redirected to the portal, and DNS pass."""
        lines = {
            "portal": ("nat hook prerouting priority -102", list(self._portal())),
            "wait": ("filter hook forward priority -1", list(self._wait())),
        }
        chains = "".join(
            f"  chain {chain} {{\n    type {hook}; policy accept;\n"
            + "".join(f"    {rule} {comment}\n" for rule in rules)
            + "  }\n"
            for chain, (hook, rules) in lines.items()
        )
        kind = f"ipv{self.source.version}_addr"
        return f"table inet {name} {{\n  set admitted {{ type {kind}; }}\n{chains}}}\n"

    def _waiting(self) -> str:
        ip = family(self.source.version)
        return f"{of_family(self.source.version)} {ip} saddr {network(self.source)} {ip} saddr != @admitted"

    def _portal(self) -> Iterator[str]:
        for address in self.addresses:
            if address.version == self.source.version:
                shown = f"[{address}]" if address.version == 6 else str(address)
                ip = family(self.source.version)
                yield f"{self._waiting()} tcp dport 80 counter dnat {ip} to {shown}:{self.port}"

    def _wait(self) -> Iterator[str]:
        yield f"{self._waiting()} ct status dnat accept"
        yield f"{self._waiting()} meta l4proto {{ tcp, udp }} th dport 53 accept"
        yield f"{self._waiting()} meta l4proto tcp counter reject with tcp reset"
        yield f"{self._waiting()} counter reject with icmpx admin-prohibited"
