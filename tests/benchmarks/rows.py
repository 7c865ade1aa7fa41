"""A row of the table of results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Row:
    """One row of the table: the measurement, what it is compared with, and the goal.

    ``value`` is None if the other could not run; ``note`` then gives the reason.
    """

    benchmark: int
    measured: str
    against: str
    value: float | None
    unit: str = "x"
    goal: str = ""
    note: str = ""

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.2f} {self.unit}"
        return (
            f"{self.benchmark}  {self.measured:48} {value:>14}  of {self.against:28} {self.goal:8} {self.note}".rstrip()
        )
