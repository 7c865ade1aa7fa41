"""Rules that need no nft: the netlink requests that add them, and the tables they are in."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from pytest_netns.kernel.netlink import nfwrite
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.nftext import Forwarded, Masqueraded


@functools.cache
def frame() -> tuple[Request, ...]:
    """The requests that add the tables of `nftext.frame`."""
    return tuple(_frame())


def _frame() -> Iterator[Request]:
    yield from map(nfwrite.add_table, nftext.TABLES)
    for chain in nftext.FRAME:
        yield nfwrite.add_chain(chain.table, chain.name, chain.type, chain.priority)
        for other in chain.jumps:
            expressions = nfwrite.jump(other, for_translated=chain.for_translated)
            yield nfwrite.add_rule(chain.table, chain.name, nftext.FRAME_COMMENT, expressions)


@functools.lru_cache(maxsize=1024)  # many tests have the same network
def expressions(plain: Forwarded | Masqueraded) -> bytes:
    """The expressions of a rule."""
    if isinstance(plain, Masqueraded):
        encode = nfwrite.count_masqueraded if plain.counts else nfwrite.masquerade
        return encode(plain.network, plain.out)
    version, protocol, ports, limits, target = plain
    if target is None:
        return nfwrite.count(version, protocol, ports, limits)
    return nfwrite.dnat(version, protocol, ports, limits, target)
