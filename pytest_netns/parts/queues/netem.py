"""netem: delay, loss, duplication, reordering, bit errors; tc-netem(8), linux/pkt_sched.h; pure."""

from __future__ import annotations

from typing import Any

from pytest_netns.parts.impairment import Impairment

KIND = "netem"
_TICK = 64  # nanoseconds, PSCHED_SHIFT of Linux
_ALL = 2**32 - 1  # a share of 1


def options(impairment: Impairment, seed: int) -> dict[str, Any]:
    """The fields and attributes of its options, by the kernel's names in lower case.

    Args:
        impairment: the impairment; its ``rate`` is left to tbf.
        seed: the seed of random numbers, for Linux 6.6 and newer; older kernels ignore it.
    """
    delay, jitter = (round(seconds * 1e9) for seconds in (impairment.delay, impairment.jitter))
    reorder = _share(impairment.reorder)
    return {
        "delay": min(delay // _TICK, _ALL),
        "limit": impairment.limit,
        "loss": _share(impairment.loss),
        "gap": 1 if reorder else 0,  # each packet may be reordered
        "duplicate": _share(impairment.duplicate),
        "jitter": min(jitter // _TICK, _ALL),
        # Always all of them, since the kernel keeps the old value of those left out.
        "reorder": {"prob_reorder": reorder, "corr_reorder": 0},
        "corrupt": {"prob_corrupt": _share(impairment.corrupt), "corr_corrupt": 0},
        "latency64": delay,
        "jitter64": jitter,
        "prng_seed": seed,
    }


def _share(share: float) -> int:
    return round(share * _ALL)
