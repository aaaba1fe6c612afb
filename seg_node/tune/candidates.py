"""What is tried: bundles, engines, precisions, input sizes, threads, and whether the mask of now is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg_node.core.bundle import Bundle
from seg_node.core.bundle.input_size import LEAST_SIDE, graph_of_size

SCALES = (1.0, 0.85, 0.7, 0.5)
"""Factors of both sides of a bundle's own input size."""
PRECISIONS = ("int8", "bf16", "fp32")
"""Precisions of the computation, those first that are likely to be fast."""
EXACTNESS = {"int8": 0, "bf16": 1, "fp32": 1}
"""Masks in bf16 are those of fp32 but for a pixel in hundreds; int8 may cost points."""


@dataclass(frozen=True, order=True)
class Setting:
    """Parameters of the node that decide how a frame is inferred."""

    model: str
    """Name of a shipped bundle, or path of a folder."""
    engine: str
    precision: str
    input_size: tuple[int, int]
    """(height, width) in pixels; (0, 0) for the bundle's own."""
    threads: int = 0
    """0 leaves it to the engine."""

    @property
    def key(self) -> str:
        """Text that tells settings apart, in files and for people."""
        size = "x".join(map(str, self.input_size)) if any(self.input_size) else "own size"
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        return f"{self.model} {self.engine} {self.precision} {size}{threads}"

    def parameters(self) -> dict[str, Any]:
        """Parameters of the node but for the model and the engine."""
        return {"precision": self.precision, "input_size": list(self.input_size), "threads": self.threads}


@dataclass(frozen=True, order=True)
class Candidate:
    """A setting, and which of its masks a decision module uses."""

    setting: Setting
    propagate: bool
    """Whether that is the mask of now."""

    @property
    def topic(self) -> str:
        """The topic of those masks."""
        return "~/mask_now" if self.propagate else "~/mask"

    @property
    def key(self) -> str:
        """Text that tells candidates apart, in files and for people."""
        return f"{self.setting.key}, {self.topic}"


def input_sizes(bundle: Bundle) -> list[tuple[int, int]]:
    """Sizes to try, the bundle's own first; no other where its graph is made for one."""
    own = tuple(bundle.manifest.input_size)
    scaled = [(round(scale * own[0]), round(scale * own[1])) for scale in SCALES]
    allowed = [size for size in scaled if min(size) >= LEAST_SIDE and size != own]
    return [own, *(allowed if graph_of_size(bundle.graph, own) is not None else [])]


def thread_counts(cores: int) -> list[int]:
    """Numbers of threads to try besides the engine's own choice: one core left to the rest of the node, and half."""
    return sorted({count for count in (cores - 1, cores // 2) if 0 < count < cores}, reverse=True)


def settings_at_own_size(bundles: Mapping[str, Bundle], engines: Sequence[str]) -> list[Setting]:
    """All engines and precisions of bundles that could be, each at its bundle's own input size.

    Args:
        bundles: by the name or path that the node takes.
        engines: to try.

    Returns:
        Settings by engine, then by precision, then by bundle.
    """
    return [
        Setting(model, engine, precision, tuple(bundle.manifest.input_size))
        for engine in engines
        for precision in PRECISIONS
        for model, bundle in bundles.items()
        if _is_possible(bundle, engine, precision)
    ]


def _is_possible(bundle: Bundle, engine: str, precision: str) -> bool:
    if engine == "torch" and (precision == "int8" or bundle.manifest.decoder == "imported"):
        return False
    return (precision != "bf16" or engine != "onnxruntime") and (precision != "int8" or bool(bundle.ranges))
