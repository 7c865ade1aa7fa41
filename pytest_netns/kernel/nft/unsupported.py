"""Recognize rulesets that nft refused because a kernel feature is missing, by trying a minimal ruleset that needs it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.system import diagnosis

FEATURE = "NAT and nft rulesets"
# libnftables only returns text: the messages for a table or expression that the kernel does not support.
_ERRORS = {number: os.strerror(number) for number in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT)}
_TABLE = "pytest-netns-probe"
_FAMILY = re.compile(r"\btable\s+(ip6|ip|inet|arp|bridge|netdev)\b")
_EXPRESSIONS = {
    "masquerade": ("type nat hook postrouting priority 100;", "masquerade"),
    "dnat": ("type nat hook prerouting priority -100;", "meta nfproto ipv4 tcp dport 80 dnat ip to 192.0.2.1"),
}


def find(text: str, error: str, try_ruleset: Callable[[str], str]) -> UnavailableError | None:
    """Return an error that names the missing feature; None if the refusal has another cause.

    Args:
        text: the ruleset.
        error: nft's message.
        try_ruleset: runs a ruleset in the same namespace; returns nft's error message, empty on success.
    """
    if not any(known in error for known in _ERRORS.values()):
        return None
    for step, probe in _probes(text):
        message = try_ruleset(probe)
        number = next((number for number, known in _ERRORS.items() if known in message), 0)
        if number:
            return UnavailableError(FEATURE, *diagnosis.explain(step, number, step.removeprefix("nft ")))
    return None


def _probes(text: str) -> Iterator[tuple[str, str]]:
    """Rulesets without effect, each with the name of its step in `diagnosis`."""
    families = dict.fromkeys(_FAMILY.findall(text) or ["ip"])
    for family in families:
        yield f"nft tables of family {family}", f"add table {family} {_TABLE}; delete table {family} {_TABLE}"
    for word, (chain, rule) in _EXPRESSIONS.items():
        if re.search(rf"\b{word}\b", text):
            table = f"table inet {_TABLE}" if "inet" in families else f"table ip {_TABLE}"
            rule = rule if "inet" in families else rule.replace("meta nfproto ipv4 ", "").replace("dnat ip", "dnat")
            name = "masquerade" if word == "masquerade" else "DNAT"
            yield f"nft {name}", f"{table} {{ chain probe {{ {chain} {rule}; }}; }}; delete {table}"
