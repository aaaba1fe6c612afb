"""What a profile says, for tests."""

import copy
from typing import Any

from seg_node.core.bundle import GRAPH, Bundle
from seg_node.core.profile.fit import fingerprint


def profile_values(bundle: Bundle, **settings: Any) -> dict[str, Any]:
    """Values for ``write_profile`` that fit this machine: a bundle on ONNX Runtime at its own input size."""
    measured = {
        "model": str(bundle.path),
        "engine": "onnxruntime",
        "precision": "fp32",
        "input_size": list(bundle.manifest.input_size),
        "threads": 1,
        "propagate": True,
        "forecast_ms": 33.333,
    } | settings
    return copy.deepcopy(
        {
            "created": "2026-11-29T11:00:00+00:00",
            "settings": measured,
            "topic": "~/mask_now",
            "why": "it won the test",
            "inference_ms": {"p50": 30.0, "low": 20.0, "high": 40.0},
            "machine": fingerprint(),
            "bundles": {measured["model"]: {"name": bundle.name, "sha256": bundle.manifest.files[GRAPH]}},
            "drive": {"path": "a drive", "sha256": "0" * 64, "truth": "ground truth of /mask"},
            "asked": {},
            "winner": {"miou_7": 70.0},
            "runners_up": [{"miou_7": 60.0}],
        }
    )
