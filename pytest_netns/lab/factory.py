"""Open the labs of tests and fixtures, and build their topologies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_netns.errors import InvalidTopologyError

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.topology import Topology

_NAMES_IN_ID = 4


class LabFactory:
    """Opens labs for the duration of a block: for fixtures of module or session scope.

    Args:
        engine: see `Lab`.

    Attributes:
        labs: the open labs.
    """

    __slots__ = ("_engine", "labs")

    def __init__(self, *, engine: str = "auto") -> None:
        self.labs: list[Lab] = []
        self._engine = engine

    def __repr__(self) -> str:
        return f"<LabFactory with {len(self.labs)} open labs>"

    @contextlib.contextmanager
    def lab(
        self, topology: Topology | str | None = None, *, owner: str = "netns_factory", needs: Iterable[str] = ()
    ) -> Generator[Lab]:
        """Open a lab for the duration of the block: ``with netns_factory.lab() as lab: yield lab``.

        Args:
            topology: the topology to build: a Topology, or the name of a picture (``"pair"``, ``"lan"``, ``"nat"``).
            owner: the lab's owner, shown in reports.
            needs: the features this machine must have, as the doctor names them, such as ``["tun", "netem", "wireguard"]``.

        Raises:
            UnavailableError: this machine lacks one; the test is skipped or fails, according to ``netns_unavailable``.
        """
        if needs:
            from pytest_netns.machine.needs import parse_needs, require

            require(parse_needs(needs))
        with open_lab(owner, engine=self._engine) as lab:
            if topology is not None:
                lab.build(_picture(topology) if isinstance(topology, str) else topology)
            self.labs.append(lab)
            try:
                yield lab
            finally:
                self.labs.remove(lab)


@contextlib.contextmanager
def open_lab(owner: str, *, recorded: bool = False, engine: str = "auto") -> Generator[Lab]:
    """Open a lab; at the end, leave all its namespaces' blocks that this thread is still in, and close it.

    Args:
        owner: the lab's owner, shown in reports.
        recorded: whether to capture its packets from the start.
        engine: see `Lab`.
    """
    from pytest_netns.lab.lab import Lab
    from pytest_netns.running import entering

    lab = Lab(owner, engine=engine)
    if recorded:
        lab.captures.record()
    depth = entering.depth()
    try:
        yield lab
    finally:
        entering.leave_all(depth)
        lab.close()


# -- topologies ------------------------------------------------------------------------------------


def build_picture(lab: Lab, name: str) -> Lab:
    """Add a ready-made picture, unless the marker has already built it."""
    picture = _picture(name)
    if not lab.has_built(picture):
        lab.build(picture)
    return lab


def build_parameter(lab: Lab, parameter: object, file: Path, root: Path) -> None:
    """Add the topology that ``parametrize("netns", ..., indirect=True)`` gives, in any form the marker accepts."""
    if parameter is not None:
        lab.build(topology_of(parameter, file, root))


def topology_id(value: object) -> str | None:
    """The id of a test that is parametrized with a Topology: the picture's name, or the namespaces' names."""
    from pytest_netns.topology import PICTURES, Topology

    if not isinstance(value, Topology):
        return None
    for name, picture in PICTURES.items():
        if value == picture:
            return name
    names = value.namespace_names
    more = f"+{len(names) - _NAMES_IN_ID}" if len(names) > _NAMES_IN_ID else ""
    return "-".join(names[:_NAMES_IN_ID]) + more or "empty"


def topology_of(given: object, file: Path, root: Path) -> Topology:
    """The topology that a marker or parameter means: a picture, a file (relative to the test file or the root), or a Topology."""
    from pytest_netns.topology import Topology

    if isinstance(given, Topology):
        return given
    if isinstance(given, str | os.PathLike):
        name = os.fsdecode(given)
        if not name.endswith(".toml"):
            return _picture(name)
        for place in (file.parent, root):
            if (place / name).is_file():
                return Topology.from_toml(place / name)
        raise InvalidTopologyError(f"cannot read topology {name!r}: no such file in {file.parent} or {root}")
    raise InvalidTopologyError(
        f"cannot use {given!r} as topology: give the name of a picture, a path to a .toml file, or a Topology"
    )


def _picture(name: str) -> Topology:
    from pytest_netns import values
    from pytest_netns.topology import PICTURES

    return PICTURES[values.parse_choice(name, PICTURES, "picture")]
