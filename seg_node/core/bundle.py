"""Model bundles: a folder with ``manifest.yaml`` and ``model.onnx``, checked whole before it is used.

Loading a bundle runs no code: the manifest is plain YAML and the weights are tensors of an ONNX graph.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.share import PACKAGE, share_folders
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB

SCHEMA = 1
MANIFEST = "manifest.yaml"
GRAPH = "model.onnx"
DEFAULT_MODEL = "fpn_resnet50"
STORED_PRECISIONS = ("fp32", "fp16", "int8")
"""What ``Manifest.precision`` may be."""


class BundleError(ValueError):
    """A bundle that must not be used; the message says which and why."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; see the field comments for shapes and units."""

    name: str
    decoder: str
    """``fpn``."""
    backbone: str
    """Encoder as segmentation-models-pytorch knows it."""
    input_size: tuple[int, int]
    """(height, width) in pixels that the network was trained on; frames are scaled to that many pixels."""
    mean: tuple[float, float, float]
    """Normalisation, RGB, of values in 0..1."""
    std: tuple[float, float, float]
    files: dict[str, str]
    """sha256 of each file, hexadecimal."""
    date: str
    """Of the export, ISO 8601."""
    precision: str = "fp32"
    """Of the stored weights: ``fp32`` or ``fp16``, whose computation is fp32 unless an engine says otherwise, or
    ``int8``, whose convolutions and matrix products are computed in it."""
    parameters: int = 0
    """Of the network, as it was trained."""
    gflops: float = 0.0
    """Of the network on a frame of the input size: a multiplication with its addition counts two."""
    parity: dict[str, Any] = field(default_factory=dict)
    """Pixels, percent, on which each engine agreed with the trained network when the bundle was made."""
    quantisation: dict[str, Any] = field(default_factory=dict)
    """How an ``int8`` bundle was made, and what that cost."""
    training: dict[str, Any] = field(default_factory=dict)
    """Data, configuration and commit that made the weights."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores by data set, percent, as ``python -m seg_training evaluate`` printed them."""
    licence: str = ""
    """Of the weights."""
    categories: tuple[str, ...] = CATEGORY_NAMES
    palette: tuple[tuple[int, int, int], ...] = tuple(tuple(int(v) for v in row) for row in PALETTE_RGB)
    """RGB of each category."""
    schema: int = SCHEMA


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were checked against its manifest."""

    path: Path
    manifest: Manifest
    graph: bytes
    """The ONNX graph, read once: what was hashed is what an engine loads."""

    @property
    def name(self) -> str:
        """Name for people, topics and records."""
        return self.manifest.name


def shipped_bundles() -> dict[str, Path]:
    """Bundles that came with the package, by name, in alphabetical order."""
    found: dict[str, Path] = {}
    # A source checkout holds the bundles in the package, an installation in its share folder.
    for folder in (PACKAGE / "models", *(share / "models" for share in share_folders())):
        for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
            found.setdefault(manifest.parent.name, manifest.parent)
    return dict(sorted(found.items()))


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a bundle, given the name of a shipped one or a path.

    Raises:
        BundleError: there is none; the message lists the shipped ones.
    """
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    # An empty name would be the current folder.
    if str(name_or_path) and (path / MANIFEST).is_file():
        return path
    names = ", ".join(shipped) or "none"
    raise BundleError(
        f"no bundle {str(name_or_path)!r}: neither a folder with {MANIFEST} nor shipped (there are: {names})"
    )


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Read a bundle and check it: manifest fields, categories, hashes.

    The output shape is checked where it becomes known, when an engine compiles the graph.

    Raises:
        BundleError: something is missing or wrong; the message names the file and the field.
    """
    path = find_bundle(name_or_path)
    manifest = _read_manifest(path / MANIFEST)
    graph = b""
    for name, expected in manifest.files.items():
        if Path(name).name != name or (path / name).is_symlink():
            raise BundleError(f"{path}: file {name!r} of the manifest does not lie in the bundle's own folder")
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{path / name}: cannot be read ({error.strerror})") from error
        if (actual := hashlib.sha256(content).hexdigest()) != expected:
            raise BundleError(f"{path / name}: sha256 is {actual[:12]}..., the manifest says {str(expected)[:12]}...")
        if name == GRAPH:
            graph = content
    if not graph:
        raise BundleError(f"{path / MANIFEST}: files lists no {GRAPH}")
    return Bundle(path, manifest, graph)


def write_bundle(path: Path, manifest: Manifest, graph: bytes) -> Bundle:
    """Write a bundle into a folder, which is made; the manifest's hashes are those of what is written."""
    path.mkdir(parents=True, exist_ok=True)
    (path / GRAPH).write_bytes(graph)
    values = asdict(manifest) | {"files": {GRAPH: hashlib.sha256(graph).hexdigest()}}
    text = yaml.safe_dump(_plain(values), sort_keys=False, default_flow_style=None, width=110)
    (path / MANIFEST).write_text(text)
    return load_bundle(path)


def _read_manifest(file: Path) -> Manifest:
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleError(f"{file}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BundleError(f"{file}: is no mapping")
    if values.get("schema") != SCHEMA:
        raise BundleError(f"{file}: schema is {values.get('schema')!r}, this version reads {SCHEMA}")
    try:
        manifest = Manifest(**{key: _frozen(value) for key, value in values.items()})
    except TypeError as error:
        raise BundleError(f"{file}: {error}") from error
    for check, name in (
        (isinstance(manifest.name, str) and manifest.name, "name"),
        (isinstance(manifest.backbone, str) and manifest.backbone, "backbone"),
        (manifest.decoder == "fpn", "decoder"),
        (manifest.precision in STORED_PRECISIONS, "precision"),
        (
            _numbers(manifest.input_size, 2) and all(isinstance(v, int) and v > 0 for v in manifest.input_size),
            "input_size",
        ),
        (_numbers(manifest.mean, 3), "mean"),
        (_numbers(manifest.std, 3) and all(v > 0 for v in manifest.std), "std"),
        (isinstance(manifest.files, dict) and all(isinstance(k, str) for k in manifest.files), "files"),
        (isinstance(manifest.training, dict), "training"),
        (isinstance(manifest.metrics, dict), "metrics"),
        (manifest.categories == CATEGORY_NAMES, "categories"),
        (manifest.palette == Manifest.__dataclass_fields__["palette"].default, "palette"),
    ):
        if not check:
            raise BundleError(f"{file}: {name} is {getattr(manifest, name)!r}, which this version cannot use")
    return manifest


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
