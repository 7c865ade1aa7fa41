"""The methods of Lab that inject faults: partitions, cuts, random faults, impairments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_netns.kernel.system.lazy import created_on_use
from pytest_netns.lab.lab_links import LabLinks
from pytest_netns.lab.members import Members
from pytest_netns.lab.namespace import Namespace
from pytest_netns.lab.notes import Notes

if TYPE_CHECKING:
    from pytest_netns.faults.cuts import Cut
    from pytest_netns.faults.faults import Faults, Undo
    from pytest_netns.faults.impair import Impairments
    from pytest_netns.faults.nemesis import FaultStarter, Nemesis
    from pytest_netns.faults.seeds import Seeds


class FaultMethods(Members):
    """The part of `Lab` that injects faults into its network.

    Args:
        owner: the lab's owner.
        engine: what impairs links.

    Attributes:
        owner: the lab's owner, such as the test's node id; shown in reports.
        links: all interfaces of its namespaces.
        notes: descriptions of the rules and settings in force, for drawings and reports.
        faults: the faults injected into its network.
        seeds: seeds for random numbers, drawn from ``--netns-seed``.
    """

    __slots__ = ("_engine", "_faults", "_impairments", "_seeds", "links", "notes", "owner")

    links: LabLinks

    def __init__(self, owner: str, engine: str) -> None:
        super().__init__()
        self.owner = owner
        self._engine = engine
        self._impairments: Impairments | None = None
        self.notes = Notes()

    @created_on_use
    def faults(self) -> Faults:
        """The faults injected into its network."""
        from pytest_netns.faults.faults import Faults

        created = Faults()
        self.notes.add(created)
        return created

    @created_on_use
    def seeds(self) -> Seeds:
        """Seeds for random numbers, drawn from ``--netns-seed``."""
        from pytest_netns.faults.seeds import Seeds

        created = Seeds(self.owner)
        self.notes.add(created)
        return created

    def _begin_fault(self, namespace: str, description: str, undo: Callable[[], None]) -> Undo:
        """Register a fault carried out elsewhere, so that `heal` undoes it."""
        return self.faults.begin(namespace, description, undo)

    def _drops(self, namespace: str, interface: str, time: float, frame: bytes) -> bool:
        """Whether a frame that an interface has received was dropped by a fault."""
        return FaultMethods.faults.is_created(self) and self.faults.drops(namespace, interface, time, frame)

    def partition(self, *groups: Iterable[Namespace | str]) -> Cut:
        """Drop all packets between groups of namespaces, in both directions; interfaces keep their carrier::

            with lab.partition(["n1"], ["n2", "n3"]):
                ...

        A namespace in two groups reaches both; one in no group reaches all. `partitions` has ready-made shapes.

        Returns:
            The partition in force: a context manager that heals it; see `Cut` about NAT.
        """
        from pytest_netns.faults import cuts

        named = [self.names_of(group) for group in groups]
        return cuts.partition(self.faults, self.links.members, named)

    def cut(self, source: Namespace | str, *, to: Namespace | str | Iterable[Namespace | str]) -> Cut:
        """Drop all packets from one namespace to others; the reverse direction stays open.

        Args:
            source: the namespace whose packets are dropped, or its name.
            to: the destination: one namespace or several.

        Returns:
            The cut in force: a context manager that heals it; see `Cut` about NAT.
        """
        from pytest_netns.faults import cuts

        return cuts.cut(self.faults, self.links.members, self.names_of(source), self.names_of(to))

    def heal(self) -> None:
        """Undo all faults: partitions, cuts, isolations, unplugged links, frozen namespaces, paused services.

        Impairments stay: they belong to the network, and have their own ``heal()``.
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
        """Start and heal faults at random times during a workload::

            with lab.nemesis([n1.isolate, lambda: lab.cut("n2", to="n3")], every=(0.5, 2)) as nemesis:
                run_the_workload()
            print(nemesis.history)

        Args:
            faults: functions that each start a fault; one with a parameter gets a `random.Random` to choose with.
            every: seconds before each start and each healing: a number, or the minimum and maximum of a random one.
            seed: the schedule's seed; None for one drawn from ``--netns-seed``.
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
        """The impaired links, and their engine."""
        with self.links.lock:
            self.check_open()
            if self._impairments is None:
                from pytest_netns.faults.impair import Impairments

                self._impairments = Impairments(self._engine, self.seeds.draw)
                self.at_end(self._impairments.close)
                self.notes.add(self._impairments)
            return self._impairments
