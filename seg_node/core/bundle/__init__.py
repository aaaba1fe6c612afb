"""Model bundles: a folder with ``manifest.yaml`` and ``model.onnx``, checked whole before it is used.

Loading a bundle runs no code and reads no file outside its folder: the manifest is plain YAML and the weights are
tensors inside an ONNX graph.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.bundle.decoder import complete_decoder
from seg_node.core.bundle.plain_files import PlainFileError, read_file, read_yaml
from seg_node.core.errors import UserError
from seg_node.core.share import PACKAGE, share_folders
from seg_node.core.taxonomy import EIGHT, Taxonomy, in_short

SCHEMA = 1
MANIFEST = "manifest.yaml"
GRAPH = "model.onnx"
RANGES = "int8.json"
DEFAULT_MODEL = "fpn_lite"
DECODERS = ("fpn", "imported")
"""Values that ``Manifest.decoder`` may have."""
STORED_PRECISIONS = ("fp32", "fp16")
"""Values that ``Manifest.precision`` may have."""

_MAX_MANIFEST = 2**18
_MAX_FILE = 2**31 - 1
"""Greatest size of a file in bytes. Protobuf, and so an ONNX graph, goes no further."""

_MAX_INPUT_SIDE = 16384

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
"""Pattern of a name, which becomes a part of file names, HTTP headers and diagnostics."""


class BundleError(UserError):
    """A bundle that must not be used; the message says which and why."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; see the field comments for shapes and units."""

    name: str
    """Letters, digits and ``_.+-``, at most 100."""
    decoder: str
    """``fpn``, or ``imported`` for a network that was trained elsewhere."""
    backbone: str
    """Encoder as segmentation-models-pytorch knows it; for an imported network its file's name."""
    input_size: tuple[int, int]
    """(height, width) in pixels that the network was trained on; frames are scaled to that many pixels."""
    mean: tuple[float, float, float]
    """Normalisation, RGB, of values in 0..1."""
    std: tuple[float, float, float]
    files: dict[str, str]
    """sha256 of each file, hexadecimal."""
    date: str
    """Day of the export, ISO 8601."""
    decoder_options: dict[str, Any] = field(default_factory=dict)
    """Width of the decoder where it differs from ``decoder.DECODER``."""
    precision: str = "fp32"
    """Precision of the stored weights, ``fp32`` or ``fp16``; what an engine computes in is its own choice."""
    parameters: int = 0
    """Number of the network's weights, as it was trained."""
    gflops: float = 0.0
    """Work of the network on a frame of the input size: a multiplication with its addition counts two."""
    parity: dict[str, Any] = field(default_factory=dict)
    """Pixels, percent, on which each engine agreed with the trained network when the bundle was made."""
    quantisation: dict[str, Any] = field(default_factory=dict)
    """How the ranges for int8 were taken, and by engine ``miou_7``, percent, before and after, and the ``loss``; of an
    imported network, whose images nobody has labelled, what ``foreign.int8.with_int8`` says."""
    training: dict[str, Any] = field(default_factory=dict)
    """Data, configuration and commit that made the weights."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores by data set, percent, as ``python -m seg_training evaluate`` printed them."""
    licence: str = ""
    """Licence of the file, as an SPDX identifier where there is one."""
    training_data_terms: str = ""
    """Terms of the data that the weights were trained on, which the licence of the file does not lift."""
    commercial_use: str = ""
    """``cleared`` or ``not cleared``, with the reason."""
    encoder_weights: str = ""
    """Source of the weights that the encoder started from, and their licence; empty for random values."""
    categories: tuple[str, ...] = EIGHT.names
    """Name of each mask value, 1 to 254."""
    palette: tuple[tuple[int, int, int], ...] = EIGHT.palette
    """RGB of each category."""
    classes: tuple[str, ...] = ()
    """Names of an imported network's own classes, in the order of its outputs; each stands for a category."""
    schema: int = SCHEMA

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The categories with their colours."""
        return Taxonomy(self.categories, self.palette)

    @property
    def may_be_silent(self) -> bool:
        """Whether a mask may hold 255, no answer: an imported network of labels gives them, and has no void for it."""
        return self.decoder == "imported" and not self.taxonomy.is_eight


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were checked against its manifest."""

    path: Path
    manifest: Manifest
    graph: bytes
    """The ONNX graph, read once: what was hashed is what an engine loads."""
    ranges: bytes = b""
    """What ``quantise.quantise`` needs besides the graph to compute in int8; empty where there is no such file."""

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
    # An empty name would be the current folder. Unlike Path.is_file, this answers for any text whatever.
    if str(name_or_path) and os.path.isfile(path / MANIFEST):
        return path
    names = ", ".join(shipped) or "none"
    raise BundleError(
        f"no bundle {str(name_or_path)[:200]!r}: neither a folder with {MANIFEST} nor shipped (there are: {names})"
    )


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Read a bundle and check it: manifest fields, categories, hashes, and that the graph holds all of itself.

    The output shape is checked where it becomes known, when an engine compiles the graph.

    Raises:
        BundleError: something is missing or wrong; the message names the file and the field.

    Example:
        >>> bundle = load_bundle("fpn_resnet50")
        >>> bundle.name, bundle.manifest.backbone
        ('fpn_resnet50', 'resnet50')
        >>> load_bundle("fpn_resnet5")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        seg_node.core.bundle.BundleError: no bundle 'fpn_resnet5': ... (there are: fpn_convnextv2, ...)
    """
    path = find_bundle(name_or_path)
    try:
        return _load(path)
    except PlainFileError as error:
        raise BundleError(str(error)) from error


def categories_of(bundles: Iterable[Bundle]) -> str:
    """Which categories bundles have, in short, for a message."""
    return ", ".join(f"{bundle.name} has {in_short(bundle.manifest.categories)}" for bundle in bundles)


def read_manifest(name_or_path: str | Path) -> Manifest:
    """The manifest of a bundle alone, whose files are not looked at.

    Raises:
        BundleError: there is no such bundle, or a field is missing or wrong.
    """
    file = find_bundle(name_or_path) / MANIFEST
    try:
        return _read_manifest(file)
    except PlainFileError as error:
        raise BundleError(str(error)) from error


def write_bundle(path: Path, manifest: Manifest, graph: bytes, ranges: bytes = b"") -> Bundle:
    """Write a bundle into a folder, which is made; the manifest's hashes are those of what is written."""
    path.mkdir(parents=True, exist_ok=True)
    contents = {GRAPH: graph} | ({RANGES: ranges} if ranges else {})
    for name, content in contents.items():
        (path / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    values = asdict(manifest) | {"files": hashes}
    text = yaml.safe_dump(_plain(values), sort_keys=False, default_flow_style=None, width=110)
    (path / MANIFEST).write_text(text)
    return load_bundle(path)


def _load(path: Path) -> Bundle:
    # Slow to import, and most of those who need a name of this module load no bundle.
    from seg_node.core.bundle.graph_check import GraphError, check_graph

    manifest = _read_manifest(path / MANIFEST)
    contents: dict[str, bytes] = {}
    for name, expected in manifest.files.items():
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise BundleError(f"{path}: file {name[:200]!r} of the manifest does not lie in the bundle's own folder")
        contents[name] = read_file(path / name, _MAX_FILE)
        if (actual := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise BundleError(f"{path / name}: sha256 is {actual[:12]}..., the manifest says {expected[:12]}...")
    if GRAPH not in contents:
        raise BundleError(f"{path / MANIFEST}: files lists no {GRAPH}")
    try:
        check_graph(contents[GRAPH])
    except GraphError as error:
        raise BundleError(f"{path / GRAPH}: {error}") from error
    return Bundle(path, manifest, contents[GRAPH], contents.get(RANGES, b""))


_TEXTS = ("licence", "training_data_terms", "commercial_use", "encoder_weights")


def _read_manifest(file: Path) -> Manifest:
    values = read_yaml(file, _MAX_MANIFEST)
    if not isinstance(values, dict):
        raise BundleError(f"{file}: is no mapping")
    if values.get("schema") != SCHEMA:
        raise BundleError(f"{file}: schema is {_short(values.get('schema'))}, this version reads {SCHEMA}")
    try:
        manifest = Manifest(**{key: _frozen(value) for key, value in values.items()})
    except TypeError as error:
        raise BundleError(f"{file}: {str(error)[:300]}") from error
    for check, name in (
        (isinstance(manifest.name, str) and _NAME.fullmatch(manifest.name), "name"),
        (isinstance(manifest.backbone, str) and manifest.backbone, "backbone"),
        (manifest.decoder in DECODERS, "decoder"),
        (_fits_decoder(manifest.decoder_options), "decoder_options"),
        (manifest.precision in STORED_PRECISIONS, "precision"),
        (
            _numbers(manifest.input_size, 2)
            and all(isinstance(v, int) and 0 < v <= _MAX_INPUT_SIDE for v in manifest.input_size),
            "input_size",
        ),
        (_numbers(manifest.mean, 3), "mean"),
        (_numbers(manifest.std, 3) and all(v > 0 for v in manifest.std), "std"),
        (
            isinstance(manifest.files, dict)
            and all(isinstance(name, str) and _is_hash(value) for name, value in manifest.files.items()),
            "files",
        ),
        (isinstance(manifest.date, str), "date"),
        (isinstance(manifest.classes, tuple) and all(isinstance(name, str) for name in manifest.classes), "classes"),
        (_numbers((manifest.parameters,), 1), "parameters"),
        (_numbers((manifest.gflops,), 1), "gflops"),
        (isinstance(manifest.parity, dict), "parity"),
        (isinstance(manifest.quantisation, dict), "quantisation"),
        (isinstance(manifest.training, dict), "training"),
        (isinstance(manifest.metrics, dict), "metrics"),
        *((isinstance(getattr(manifest, name), str), name) for name in _TEXTS),
        (isinstance(manifest.categories, tuple), "categories"),
        (isinstance(manifest.palette, tuple), "palette"),
    ):
        if not check:
            raise BundleError(f"{file}: {name} is {_short(getattr(manifest, name))}, which this version cannot use")
    try:
        Taxonomy(manifest.categories, manifest.palette)
    except UserError as error:
        raise BundleError(f"{file}: categories and palette: {error}") from error
    return manifest


def _fits_decoder(options: Any) -> bool:
    try:
        complete_decoder(options)
    except (TypeError, ValueError):
        return False
    return True


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _short(value: Any) -> str:
    """A value of a manifest for people, who need not see all of it."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e15 for v in value)
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
