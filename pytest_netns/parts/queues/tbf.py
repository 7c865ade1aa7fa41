"""tbf: a rate, and packets cut to the MTU's size on their way in; tc-tbf(8), linux/pkt_sched.h; pure."""

from __future__ import annotations

from typing import Any

from pytest_netns.parts.impairment import Impairment

KIND = "tbf"
_ETHERNET = 18  # bytes of an Ethernet header with a VLAN tag
_ANY_RATE = 10**12 // 8  # bytes per second: as good as none
_BURST = 0.005  # seconds at full rate: a timer that is late by that much loses nothing
_LINK_LAYER = 1  # TC_LINKLAYER_ETHERNET: the kernel needs no table of rates
_MOST = 2**32 - 1


def options(impairment: Impairment, mtu: int) -> dict[str, Any]:
    """The attributes of its options, by the kernel's names in lower case.

    The second, higher rate makes the kernel cut large packets (TSO, GSO) to the MTU's size before it queues them, so that
    loss and the rest decide about packets as they are on a real wire.

    Args:
        impairment: of which only the ``rate`` counts.
        mtu: of the interface, in bytes.
    """
    rate = _ANY_RATE if impairment.rate is None else max(impairment.rate // 8, 1)
    frame = mtu + _ETHERNET
    parameters = {
        "rate___reserved": _LINK_LAYER,
        "rate": min(rate, _MOST),
        "peak___reserved": _LINK_LAYER,
        "peak": _MOST,
        "limit": _MOST,
    }
    return {
        "parms": parameters,
        "rate64": rate,
        "prate64": 2 * _ANY_RATE,
        "burst": min(max(frame, round(rate * _BURST)), _MOST),
        "pburst": frame,
    }
