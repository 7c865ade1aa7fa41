"""The effect of each kind of NAT on hole punching, with a real STUN server (coturn) and real ICE agents (aioice).

The suite tries a few pairs; ``make nat-table`` all of them, and prints the table of docs/gateways.md.
"""

from __future__ import annotations

import itertools
import os
import re

import pytest

from pytest_netns import Lab
from pytest_netns.parts.gateway.nat import BEHAVIOURS, KINDS
from tests.support import ice

FULL = os.environ.get("NETNS_NAT") == "full"
EVERY = [*KINDS, "masquerade"]
# One of each kind: both sides strict, one symmetric with each degree of strictness, plain masquerade.
FEW = [
    ("port-restricted", "home"),
    ("symmetric", "full-cone"),
    ("symmetric", "address-restricted"),
    ("symmetric", "port-restricted"),
    ("symmetric", "symmetric"),
    ("carrier", "home"),
    ("masquerade", "masquerade"),
    ("masquerade", "full-cone"),
    ("home", "masquerade"),
    ("masquerade", "home"),
]
SENDS_FIRST = [("masquerade", each) for each in KINDS]
PAIRS = [*itertools.combinations_with_replacement(EVERY, 2), *SENDS_FIRST] if FULL else FEW
WORDS = {
    "Endpoint Independent": BEHAVIOURS[0],
    "Address Dependent": BEHAVIOURS[1],
    "Address and Port Dependent": BEHAVIOURS[2],
}


def expected(first: str, second: str) -> bool:
    """Whether hole punching works if the first one's side sends first."""
    strict = {"home", "port-restricted", "symmetric", "masquerade"}
    if first not in strict or second not in strict:
        return True
    if second == "masquerade":
        # The first packet becomes a connection of the masquerading gateway itself, and occupies the mapped port.
        return False
    # A symmetric NAT sends from a port that is unknown to the other side.
    return "symmetric" not in {first, second}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pair(netns: Lab, first: str, second: str) -> None:
    """ICE without a relay connects alice and bob behind these two NATs or not, as expected for their kinds."""
    ice.build(netns, first, second)
    ice.start_stun(netns)
    assert ice.hole_punching(netns) is expected(first, second)


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("like", KINDS)
def test_as_a_stun_server_sees_it(netns: Lab, like: str, version: int) -> None:
    """Each kind is what its name says, by the tests of RFC 5780 against coturn."""
    ice.build(netns, like, "home", version)
    ice.start_stun(netns)
    assert ice.classify(netns["alice"], version) == (KINDS[like].mapping, KINDS[like].filtering)


@pytest.mark.parametrize("like", KINDS if FULL else ["address-restricted"])
def test_as_coturns_own_program_sees_it(netns: Lab, like: str) -> None:
    """coturn's turnutils_natdiscovery agrees."""
    ice.build(netns, like, "home")
    ice.start_stun(netns)
    output = netns["alice"].run(["turnutils_natdiscovery", "-m", "-f", ice.SERVERS[4][0]], timeout=60).stdout
    mapping, filtering = (
        WORDS[re.search(rf"NAT with (.*) {what}!", output)[1]]  # type: ignore[index]
        for what in ("Mapping", "Filtering")
    )
    assert (mapping, filtering) == (KINDS[like].mapping, KINDS[like].filtering)
