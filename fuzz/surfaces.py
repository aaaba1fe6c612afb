"""The ways in, each with its contract: an input is accepted with a valid result, or refused with the documented error.

``draw`` makes an input from a random generator, whoever drives it: a seed, hypothesis, or a coverage-guided fuzzer.
``feed`` gives it to the code and returns how it ended; whatever else it raises is a finding.
"""

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random

from cases import Case

ACCEPTED = "accepted"

_LONGEST_MESSAGE = 2000
"""Characters of a refusal: it becomes a line of a log, a diagnostic value or an answer."""


class ContractError(AssertionError):
    """An input was accepted with a wrong result, or refused without a reason."""


def expect(condition: object, problem: str) -> None:
    """A part of a contract; raises ``ContractError`` where it does not hold."""
    if not condition:
        raise ContractError(problem)


def refused(error: Exception) -> str:
    """How a refused input ended: the class of the error, whose message is checked."""
    expect(0 < len(str(error).strip()) <= _LONGEST_MESSAGE, f"{type(error).__name__} says {str(error)[:100]!r}...")
    return type(error).__name__


class Surface(ABC):
    """One way in.

    Args:
        folder: for files.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @abstractmethod
    def draw(self, rng: Random) -> Case:
        """An input."""

    @abstractmethod
    def feed(self, case: Case) -> str:
        """Give an input to the code.

        Returns:
            ``ACCEPTED``, or the class of the refusal.

        Raises:
            ContractError: see there; any other error is a finding as well.
        """

    def close(self) -> None:  # noqa: B027
        """Free what the surface holds."""


_CLASSES = {
    "image": "image_surfaces:RawSurface",
    "compressed": "image_surfaces:CompressedSurface",
    "bundle": "bundle_surface:BundleSurface",
    "bag": "bag_surface:BagSurface",
    "mcap": "mcap_surface:McapSurface",
    "dataset": "dataset_surface:DatasetSurface",
    "parameters": "parameter_surface:ParameterSurface",
    "projection": "projection_surface:ProjectionSurface",
    "import": "import_surface:ImportSurface",
    "http": "http_surface:HttpSurface",
}
SURFACES = tuple(_CLASSES)
"""Names of all surfaces."""


def make_surface(name: str, folder: Path) -> Surface:
    """A surface by name, or one of another module as ``module:class``; what it needs is imported only now."""
    module, _, kind = _CLASSES.get(name, name).partition(":")
    return getattr(importlib.import_module(module), kind)(folder)
