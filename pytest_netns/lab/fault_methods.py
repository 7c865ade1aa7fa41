"""What a lab can be told to do to its network on purpose: partitions, cuts, random faults, impairments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_netns.faults.faults import Faults
from pytest_netns.faults.seeds import Seeds
from pytest_netns.lab.links import LabLinks
from pytest_netns.lab.members import Members
from pytest_netns.lab.namespace import Namespace
from pytest_netns.lab.notes import Notes

if TYPE_CHECKING:
    from pytest_netns.faults.cuts import Cut
    from pytest_netns.faults.impair import Impairments
    from pytest_netns.faults.nemesis import FaultStarter, Nemesis


class FaultMethods(Members):
    """The part of `Lab` that does things to its network on purpose.

    Args:
        owner: who the lab belongs to.
        engine: what impairs links.

    Attributes:
        links: all interfaces of its namespaces.
        notes: the words of whatever is in force, for drawings and reports.
        faults: what is being done to its network on purpose.
        seeds: of random numbers, drawn from ``--netns-seed``.
    """

    __slots__ = ("_engine", "_impairments", "faults", "links", "notes", "seeds")

    links: LabLinks

    def __init__(self, owner: str, engine: str) -> None:
        super().__init__()
        self._engine = engine
        self._impairments: Impairments | None = None
        self.notes = Notes()
        self.faults = Faults()
        self.seeds = Seeds(owner)
        self.notes.add(self.faults)
        self.notes.add(self.seeds)

    def partition(self, *groups: Iterable[Namespace | str]) -> Cut:
        """Have nothing pass between groups of namespaces, either way; their interfaces keep their carrier::

            with lab.partition(["n1"], ["n2", "n3"]):
                ...

        A namespace in two groups sees both. One in no group sees everybody. `partitions` has ready shapes.

        Returns:
            The partition in force: a context manager that heals it; see `Cut` for what it knows of NAT.
        """
        from pytest_netns.faults import cuts

        named = [self.names_of(group) for group in groups]
        return cuts.partition(self.faults, self.links.members, named)

    def cut(self, source: Namespace | str, *, to: Namespace | str | Iterable[Namespace | str]) -> Cut:
        """Have nothing that a namespace sends reach another one; the other way stays open.

        Args:
            source: the namespace whose packets are dropped, or its name.
            to: where its packets do not arrive: one namespace or several.

        Returns:
            The cut in force: a context manager that heals it; see `Cut` for what it knows of NAT.
        """
        from pytest_netns.faults import cuts

        return cuts.cut(self.faults, self.links.members, self.names_of(source), self.names_of(to))

    def heal(self) -> None:
        """Undo all faults: partitions, cuts, isolations, unplugged cables, frozen namespaces, paused services.

        Impairments stay: they are a property of the network, and have a ``heal()`` of their own.
        """
        self.check_open()
        self.faults.heal()

    def nemesis(
        self,
        faults: Sequence[FaultStarter],
        *,
        every: float | tuple[float, float] = (0.5, 2.0),
        seed: int | None = None,
    ) -> Nemesis:
        """Start and heal faults at random instants beside a workload::

            with lab.nemesis([n1.isolate, lambda: lab.cut("n2", to="n3")], every=(0.5, 2)) as nemesis:
                run_the_workload()
            print(nemesis.history)

        Args:
            faults: functions that each start one; with an argument they are given a `random.Random` to choose with.
            every: seconds before each start and each healing: a number, or the least and the most of a random one.
            seed: of the schedule; None for one drawn from ``--netns-seed``.
        """
        from pytest_netns.faults.nemesis import Nemesis

        self.check_open()
        made = Nemesis(faults, every=every, seed=self.seeds.draw() if seed is None else seed)
        self.notes.add(made)
        self.at_end(made.stop)
        return made

    @property
    def has_impairments(self) -> bool:
        """Whether any link has been impaired."""
        return self._impairments is not None

    @property
    def impairments(self) -> Impairments:
        """The impaired links, and what impairs them."""
        with self.links.lock:
            self.check_open()
            if self._impairments is None:
                from pytest_netns.faults.impair import Impairments

                self._impairments = Impairments(self._engine, self.seeds.draw)
                self.at_end(self._impairments.close)
                self.notes.add(self._impairments)
            return self._impairments
