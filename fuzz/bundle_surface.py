"""Model bundles."""

import hashlib
import json
import os
from dataclasses import asdict
from random import Random

import onnx
import onnx.parser
from cases import Case
from mutate import damaged
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.core.bundle import GRAPH, MANIFEST, BundleError, load_bundle

_GRAPH = """<ir_version: 10, opset_import: ["": 20]>
small (uint8[H, W, 3] frame) => (uint8[H, W] mask) <int64 channel = {0}, bool never = {0}> {
    mask = If (never) <
        then_branch = one () => (uint8[H, W] first) { first = Gather <axis = 2> (frame, channel) },
        else_branch = two () => (uint8[H, W] other) {
            last = Constant <value = int64 {2}> ()
            other = Gather <axis = 2> (frame, last)
        }
    >
}"""

_FIELDS = {
    "schema": "1",
    "name": "small",
    "decoder": "fpn",
    "backbone": "resnet18",
    "input_size": "[32, 48]",
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.2, 0.2, 0.2]",
    "date": "2026-11-21",
    "metrics": "{val: {miou_7: 50.0}}",
}
"""Least that a manifest needs, and one mapping; besides ``files``."""

_ODD_VALUES = (
    *(
        "",
        "null",
        "true",
        "-1",
        "0",
        "1.5",
        ".nan",
        "-.inf",
        "1.0e+400",
        "9" * 5000,
        "0x7fffffff",
        "1:99",
        "2026-13-45",
    ),
    *(
        "[]",
        "{}",
        "[1, 2, 3]",
        "[.nan, 1, 1]",
        "[[[[]]]]",
        "[" * 200,
        "{a: " * 200,
        "'",
        '"\\ud800"',
        '"a\\0b"',
        '"a\\nb"',
    ),
    *(
        "!!int ''",
        "!!float ''",
        "!!bool x",
        "!!timestamp x",
        "!!binary 'AA=='",
        "!!set {a, b}",
        "!!python/name:os.system",
    ),
    *(
        "!!python/object/apply:os.getpid []",
        "&a [*a, *a]",
        "*a",
        "{? [1] : 2}",
        "{1: 2}",
        "{<<: {a: b}}",
        "%",
        "é",
        "x" * 2000,
    ),
)
_ODD_NAMES = (
    *("..", ".", "''", "../model.onnx", "/etc/passwd", "'a/../model.onnx'", "manifest.yaml", "model.onnx.", "missing"),
    *('"model.onnx\\0"', '"\\ud800"', "a" * 300, "{a: b}", "1", "'\\model.onnx'", "link", "pipe", "folder", "outside"),
)


class BundleSurface(Surface):
    """``load_bundle``; refuses with ``BundleError``."""

    def __init__(self, folder):
        super().__init__(folder)
        self._graph = onnx.parser.parse_model(_GRAPH).SerializeToString()
        self._path = folder / "bundle"
        self._path.mkdir(exist_ok=True)
        (folder / "outside").write_bytes(self._graph)
        # Names that a manifest may lead to, none of which is the bundle's own file.
        (self._path / "link").symlink_to(folder / "outside")
        (self._path / "folder").mkdir()
        os.mkfifo(self._path / "pipe")

    def draw(self, rng: Random) -> Case:
        graph, fields = self._graph, dict(_FIELDS)
        kind = rng.randrange(11)
        if kind < 3:
            graph = damaged(rng, graph)
        fields["files"] = f"{{{GRAPH}: {hashlib.sha256(graph).hexdigest()}}}"
        if kind == 3:
            name = rng.choice(_ODD_NAMES)
            fields["files"] = (
                f"{{{GRAPH}: {hashlib.sha256(graph).hexdigest()}, {name}: {hashlib.sha256(self._graph).hexdigest()}}}"
            )
        elif 4 <= kind < 8:
            key = rng.choice(
                (*fields, "training", "palette", "categories", "licence", "precision", "gflops", "parity", "x")
            )
            fields[key] = rng.choice(_ODD_VALUES)
            if rng.randrange(4) == 0:
                del fields[rng.choice(list(fields))]
        manifest = "".join(f"{key}: {value}\n" for key, value in fields.items()).encode()
        if kind in (8, 9):
            manifest = damaged(rng, manifest)
        return {"manifest": manifest, "graph": graph}

    def feed(self, case: Case) -> str:
        (self._path / MANIFEST).write_bytes(case["manifest"])
        (self._path / GRAPH).write_bytes(case["graph"])
        try:
            bundle = load_bundle(self._path)
        except BundleError as error:
            return refused(error)
        expect(bundle.graph == case["graph"], "the graph is not that of the folder")
        expect(set(bundle.manifest.files) <= {GRAPH, MANIFEST}, f"files are {list(bundle.manifest.files)}")
        # What the HTTP API and the node's diagnostics do with it.
        expect(
            bundle.name.encode("ascii").isalnum() or not set("/\r\n\0") & set(bundle.name), f"name is {bundle.name!r}"
        )
        json.dumps(asdict(bundle.manifest), allow_nan=False)
        return ACCEPTED
