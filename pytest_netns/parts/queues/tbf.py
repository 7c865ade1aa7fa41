"""tbf: a rate limit, and segmentation of large packets to the MTU; tc-tbf(8), linux/pkt_sched.h; pure."""

from __future__ import annotations

from typing import Any

from pytest_netns.parts.impairment import Impairment

KIND = "tbf"
_ETHERNET = 18  # bytes of an Ethernet header with a VLAN tag
_ANY_RATE = 10**12 // 8  # bytes per second: practically no limit
_BURST = 0.005  # seconds at full rate: a timer that is late by this much costs no throughput
_LINK_LAYER = 1  # TC_LINKLAYER_ETHERNET: the kernel needs no table of rates
_MOST = 2**32 - 1


def options(impairment: Impairment, mtu: int) -> dict[str, Any]:
    """The attributes of its options, by the kernel's names in lower case.

    The peak rate makes the kernel segment large packets (TSO, GSO) to the MTU before it queues them, so that loss and the
    other impairments apply to packets as they are on a physical wire.

    Args:
        impairment: the impairment; only its ``rate`` is used.
        mtu: the interface's MTU in bytes.
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
