"""Rows of the table of bad days: what a fault is, what is expected of it, and what was seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundles import constant_bundle
from scene import NODE, Books, Scene


class Skipped(RuntimeError):
    """A fault that cannot be made here; the message says why."""


@dataclass
class Seen:
    """What a fault did."""

    facts: list[str]
    """For people."""
    checks: dict[str, bool]
    """What was expected, and whether it was so."""
    books: list[Books]
    """Of each node."""
    next_mask_s: float | None = None
    """From the fault until the arrival of the mask of a frame that was sent after it."""

    @property
    def unaccounted(self) -> int:
        """Frames that are missing in the books."""
        return sum(books.unaccounted for books in self.books)

    @property
    def holds(self) -> bool:
        """Whether all was as expected."""
        return all(self.checks.values()) and not self.unaccounted

    def text(self) -> str:
        """The facts, and what was not as expected."""
        wrong = [f"NOT {check}" for check, holds in self.checks.items() if not holds]
        faults = [fault for books in self.books for fault in books.faults]
        return "; ".join([*self.facts, *wrong, *faults])


@dataclass
class Stage:
    """Where a row plays: a folder of its own and how long it may take."""

    folder: Path
    quick: bool
    one: Path = field(init=False)
    """Bundle whose masks are all of category 1."""
    two: Path = field(init=False)
    """Bundle whose masks are all of category 2."""

    def __post_init__(self) -> None:
        self.one = constant_bundle(self.folder, "one", 1).path
        self.two = constant_bundle(self.folder, "two", 2).path

    def scene(self, nodes: Sequence[str] = (NODE,), options: Sequence[str] = (), **settings: object) -> Scene:
        """See ``Scene``."""
        return Scene(self.folder, nodes, options, **settings)

    def times(self, full: int, quick: int) -> int:
        """How often something is done."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    title: str
    expected: str
    act: Callable[[Stage], Seen]


FAULTS: dict[str, Fault] = {}
"""All rows by name, in the order of the table."""


def fault(title: str, expected: str) -> Callable[[Callable[[Stage], Seen]], Callable[[Stage], Seen]]:
    """Add a function to the table; its name is the row's."""

    def add(act: Callable[[Stage], Seen]) -> Callable[[Stage], Seen]:
        FAULTS[act.__name__] = Fault(act.__name__, title, expected, act)
        return act

    return add
