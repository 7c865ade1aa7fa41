"""Whether nft has refused a ruleset because this kernel lacks what it needs: tried with the least that needs it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.system import diagnosis

FEATURE = "NAT and nft rulesets"
# What libnftables, which gives text alone, says of a table or an expression that the kernel has not.
_SIGNS = {number: os.strerror(number) for number in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT)}
_TABLE = "pytest-netns-probe"
_FAMILY = re.compile(r"\btable\s+(ip6|ip|inet|arp|bridge|netdev)\b")
_EXPRESSIONS = {
    "masquerade": ("type nat hook postrouting priority 100;", "masquerade"),
    "dnat": ("type nat hook prerouting priority -100;", "meta nfproto ipv4 tcp dport 80 dnat ip to 192.0.2.1"),
}


def find(text: str, error: str, refused: Callable[[str], str]) -> UnavailableError | None:
    """What the kernel lacks for a ruleset; None where something else is wrong with it.

    Args:
        text: the ruleset.
        error: nft's message.
        refused: has nft carry out a text in the same namespace; returns its message, empty where all went well.
    """
    if not any(sign in error for sign in _SIGNS.values()):
        return None
    for step, probe in _probes(text):
        message = refused(probe)
        number = next((number for number, sign in _SIGNS.items() if sign in message), 0)
        if number:
            return UnavailableError(FEATURE, *diagnosis.explain(step, number, step.removeprefix("nft ")))
    return None


def _probes(text: str) -> Iterator[tuple[str, str]]:
    """Rulesets that change nothing, each with the step that `diagnosis` knows it by."""
    families = dict.fromkeys(_FAMILY.findall(text) or ["ip"])
    for family in families:
        yield f"nft tables of family {family}", f"add table {family} {_TABLE}; delete table {family} {_TABLE}"
    for word, (chain, rule) in _EXPRESSIONS.items():
        if re.search(rf"\b{word}\b", text):
            table = f"table inet {_TABLE}" if "inet" in families else f"table ip {_TABLE}"
            rule = rule if "inet" in families else rule.replace("meta nfproto ipv4 ", "").replace("dnat ip", "dnat")
            name = "masquerade" if word == "masquerade" else "DNAT"
            yield f"nft {name}", f"{table} {{ chain probe {{ {chain} {rule}; }}; }}; delete {table}"
