"""Impairments: the impaired links of a lab, and the engines that impair them."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from pytest_netns.errors import KernelError, UnavailableError, fails_as
from pytest_netns.faults.faults import Healing
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.parts.impairment import Impairment
from pytest_netns.values.notes import Note

NETEM_REMEDY = "sudo modprobe -a sch_netem sch_tbf; or netns_impairments = userspace"

_RANDOM = ("loss", "duplicate", "reorder", "corrupt", "jitter")


@dataclass(frozen=True)
class Target:
    """An interface whose outgoing packets are impaired.

    Attributes:
        network: the namespace it is in.
        index: its interface index.
        name: its name.
    """

    network: NetworkNamespace
    index: int
    name: str

    @property
    def key(self) -> tuple[int, int]:
        """Its unique key."""
        return self.network.inode, self.index


class _Known:
    """What this process knows about the kernel."""

    no_netem = False


class Engine(Protocol):
    """A mechanism that impairs outgoing packets.

    Attributes:
        name: its name in drawings and reports.
    """

    name: str

    def apply(self, target: Target, impairment: Impairment, seed: str) -> None:
        """Impair an interface's outgoing packets, or change the impairment."""

    def remove(self, target: Target) -> None:
        """Remove the impairment; idempotent, and no error if the interface is gone."""

    def problem(self) -> str:
        """Why impairments are no longer in force; empty if they are."""
        ...

    def close(self) -> None:
        """Remove all its impairments."""


class Impaired(NamedTuple):
    """The impairment of an interface."""

    target: Target
    impairment: Impairment
    engine: Engine


class Impairments:
    """The impaired links of a lab.

    Args:
        engine: ``"auto"``, ``"netem"`` or ``"userspace"``.
        draw_seed: draws a seed for an impairment that needs one and has none.
    """

    def __init__(self, engine: str, draw_seed: Callable[[], int]) -> None:
        self._wanted = engine
        self._draw_seed = draw_seed
        self._engines: dict[str, Engine] = {}
        self._in_force: dict[tuple[int, int], Impaired] = {}
        self._lock = threading.RLock()

    def of(self, target: Target) -> Impairment | None:
        """The impairment of an interface's outgoing packets, if any."""
        in_force = self._in_force.get(target.key)
        return None if in_force is None else in_force.impairment

    @fails_as("impair link")
    def set(self, target: Target, impairment: Impairment | None) -> None:
        """Impair an interface's outgoing packets; None removes the impairment.

        Raises:
            UnavailableError: this machine cannot impair links, or not with the configured engine.
        """
        with self._lock:
            known = self._in_force.get(target.key)
            if impairment is None:
                if known is not None:
                    known.engine.remove(target)
                    del self._in_force[target.key]
                return
            engine = self._apply(target, impairment, None if known is None else known.engine)
            self._in_force[target.key] = Impaired(target, impairment, engine)

    def renew(self, target: Target) -> None:
        """Apply the impairment again after the interface's MTU has changed."""
        with self._lock:
            known = self._in_force.get(target.key)
            if known is not None:
                known.engine.apply(target, known.impairment, self._seed_of(target, known.impairment))

    def forget(self, target: Target) -> None:
        """Remove the impairment of a deleted interface."""
        self.set(target, None)

    def notes(self) -> Iterator[Note]:
        """Notes with each impairment, its engine, and the seed to reproduce it."""
        for target, impairment, engine in tuple(self._in_force.values()):
            problem = engine.problem()
            text = f"sends: {impairment} ({engine.name}{f', NOT in force: {problem}' if problem else ''})"
            yield Note(target.network.name, text, target.name)

    def close(self) -> None:
        """Remove all impairments, whether or not the namespaces still exist."""
        with self._lock:
            self._in_force.clear()
            for engine in self._engines.values():
                engine.close()

    def _apply(self, target: Target, impairment: Impairment, current: Engine | None) -> Engine:
        seed = self._seed_of(target, impairment)
        if current is None and self._wanted != "userspace" and not (self._wanted == "auto" and _Known.no_netem):
            try:
                netem = self._engine("netem")
                netem.apply(target, impairment, seed)
                return netem
            except KernelError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
                if self._wanted == "netem":
                    cause = f"{error.kernel_message or error.strerror}, and netns_impairments = netem is set"
                    raise UnavailableError("netem", cause, NETEM_REMEDY) from error
                _Known.no_netem = True
        engine = current or self._engine("userspace")
        engine.apply(target, impairment, seed)
        return engine

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = _make_engine(name)
        return self._engines[name]

    def _seed_of(self, target: Target, impairment: Impairment) -> str:
        """The seed of the random numbers of one direction of a link."""
        seed = impairment.seed
        if seed is None and any(getattr(impairment, each) for each in _RANDOM):
            seed = self._draw_seed()
        return f"{seed}/{target.network.name}/{target.name}"


def _make_engine(name: str) -> Engine:
    if name == "netem":
        from pytest_netns.faults.netem import Netem

        return Netem()
    from pytest_netns.faults.wire import UserWire

    return UserWire()


class InForce(Healing):
    """A newly set impairment: `heal`, or the end of its block, restores the previous one."""

    __slots__ = ("_before", "_impairments", "_words")

    def __init__(self, impairments: Impairments, targets: tuple[Target, ...], impairment: Impairment) -> None:
        self._impairments = impairments
        self._before = [(target, impairments.of(target)) for target in targets]
        self._words = f"{' and '.join(f'{each.network.name}/{each.name}' for each in targets)}: {impairment}"
        try:
            for target in targets:
                impairments.set(target, impairment)
        except BaseException:
            self.heal()
            raise

    def heal(self) -> None:
        """Restore the previous impairment; idempotent."""
        restored, self._before = self._before, []
        for target, before in restored:
            self._impairments.set(target, before)

    def __repr__(self) -> str:
        return f"<{self._words}{'' if self._before else ' (healed)'}>"


def values_of(impairment: Impairment) -> dict[str, float | int | None]:
    """The values of an impairment, without its seed."""
    return {name: value for name, value in asdict(impairment).items() if name != "seed"}


def number(seed: str) -> int:
    """A seed as a 64-bit number."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest())
