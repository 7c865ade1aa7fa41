"""Impairments: the impaired links of a lab, and the engine that impairs them. It knows no handle."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from pytest_netns.errors import KernelError, UnavailableError, fails_as
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.parts.impairment import Impairment
from pytest_netns.values.notes import Note

NETEM_REMEDY = "sudo modprobe -a sch_netem sch_tbf; or netns_impairments = userspace"

_RANDOM = ("loss", "duplicate", "reorder", "corrupt", "jitter")


@dataclass(frozen=True)
class Target:
    """An interface whose sending is impaired.

    Attributes:
        network: the namespace it is in.
        index: its number there.
        name: its name.
    """

    network: NetworkNamespace
    index: int
    name: str

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from all others."""
        return self.network.inode, self.index


class _Known:
    """What this process has found out about the kernel."""

    no_netem = False


class Engine(Protocol):
    """One way to impair what interfaces send.

    Attributes:
        name: what drawings and reports call it.
    """

    name: str

    def apply(self, target: Target, impairment: Impairment, seed: str) -> None:
        """Impair what an interface sends from now on, or change how."""

    def remove(self, target: Target) -> None:
        """End it; idempotent, and no error where the interface is gone."""

    def problem(self) -> str:
        """Why nothing is impaired any more; empty where all is well."""
        ...

    def close(self) -> None:
        """End everything of it."""


class Impaired(NamedTuple):
    """What is in force for an interface."""

    target: Target
    impairment: Impairment
    engine: Engine


class Impairments:
    """The impaired links of a lab.

    Args:
        engine: ``"auto"``, ``"netem"`` or ``"userspace"``.
        draw_seed: gives one to an impairment that has none of its own, and needs one.
    """

    def __init__(self, engine: str, draw_seed: Callable[[], int]) -> None:
        self._wanted = engine
        self._draw_seed = draw_seed
        self._engines: dict[str, Engine] = {}
        self._in_force: dict[tuple[int, int], Impaired] = {}
        self._lock = threading.RLock()

    def of(self, target: Target) -> Impairment | None:
        """What is in force for what an interface sends."""
        found = self._in_force.get(target.key)
        return None if found is None else found.impairment

    @fails_as("impair link")
    def set(self, target: Target, impairment: Impairment | None) -> None:
        """Impair what an interface sends, from now on; None ends it.

        Raises:
            UnavailableError: this machine can do it in no way, or not in the one that was asked for.
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
        """The interface's MTU has changed."""
        with self._lock:
            known = self._in_force.get(target.key)
            if known is not None:
                known.engine.apply(target, known.impairment, self._seed_of(target, known.impairment))

    def forget(self, target: Target) -> None:
        """The interface is gone."""
        self.set(target, None)

    def notes(self) -> Iterator[Note]:
        """What is in force, by which engine, and the seed to have the same again."""
        for target, impairment, engine in tuple(self._in_force.values()):
            problem = engine.problem()
            text = f"sends: {impairment} ({engine.name}{f', NOT in force: {problem}' if problem else ''})"
            yield Note(target.network.name, text, target.name)

    def close(self) -> None:
        """End all of it, whether or not the namespaces are still there."""
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
                    cause = f"{error.kernel_message or error.strerror}; netns_impairments = netem was asked for"
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
        """What the random numbers of one direction of a link depend on."""
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


class InForce(AbstractContextManager["InForce"]):
    """An impairment that was just set; as a context manager it ends with the block, and what was before is back."""

    def __init__(self, impairments: Impairments, targets: tuple[Target, ...], impairment: Impairment) -> None:
        self._impairments = impairments
        self._before = [(target, impairments.of(target)) for target in targets]
        try:
            for target in targets:
                impairments.set(target, impairment)
        except BaseException:
            self._undo()
            raise

    def __exit__(self, *exception: object) -> None:
        self._undo()

    def _undo(self) -> None:
        for target, before in self._before:
            self._impairments.set(target, before)


def values_of(impairment: Impairment) -> dict[str, float | int | None]:
    """The values of an impairment but its seed."""
    return {name: value for name, value in asdict(impairment).items() if name != "seed"}


def number(seed: str) -> int:
    """A seed as a number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest())
