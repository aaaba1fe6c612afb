"""Who makes the dashboard's masks: engines in this process, or an HTTP API elsewhere."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle, shipped_bundles
from seg_node.core.engines import Engine, EngineError, create_engine
from seg_node.core.errors import RunError, UndecodableError
from seg_node.core.exif import photo_to_bgr
from seg_node.core.images import EncodedPixels
from seg_node.core.taxonomy import Taxonomy

_TIMEOUT_S = 120


class MaskError(RunError):
    """There is no mask; the message says why and what to do."""


@dataclass(frozen=True)
class Masked:
    """What a model makes of one image."""

    mask: np.ndarray
    """uint8 [H, W], category ids."""
    confidence: np.ndarray
    """uint8 [H, W], greatest softmax in 0..255."""
    milliseconds: float
    """Milliseconds that the inference took."""
    engine: str


class Masker(Protocol):
    """Makes masks. Streamlit has a thread for each visitor, so methods may be called by several at once."""

    def models(self) -> Mapping[str, dict[str, Any]]:
        """``backbone``, ``training_data``, ``metrics`` and ``categories`` of each model by name, as its manifest says.

        Each category has ``name`` and ``rgb``.

        Raises:
            MaskError: they cannot be had.
        """

    def mask(self, image: bytes, model: str) -> Masked:
        """Mask a JPEG or PNG file.

        Raises:
            MaskError: it cannot be masked.
        """


def taxonomy_of(model: Mapping[str, Any]) -> Taxonomy:
    """The categories of a model of ``Masker.models``."""
    labels = model["categories"]
    return Taxonomy(tuple(label["name"] for label in labels), tuple(tuple(label["rgb"]) for label in labels))


class InProcess:
    """Masks in this process, with the node's engines.

    Args:
        given: paths of bundles beside the shipped ones; one with the name of a shipped one takes its place.
        engine: see ``create_engine``.

    Raises:
        BundleError: a bundle must not be used.
    """

    def __init__(self, given: Sequence[str] = (), engine: str = "auto"):
        # The default model first, and a given one in the place of the shipped one of its name.
        paths = [DEFAULT_MODEL, *shipped_bundles().values(), *given]
        self._bundles = {bundle.name: bundle for bundle in map(load_bundle, paths)}
        self._engine = engine
        self._engines: dict[str, Engine] = {}
        self._warm: set[tuple[str, tuple[int, int]]] = set()
        # Engines are not thread-safe, and two at once would spoil each other's latency.
        self._lock = threading.Lock()

    def models(self) -> Mapping[str, dict[str, Any]]:
        """See ``Masker``."""
        return {
            name: {
                "backbone": bundle.manifest.backbone,
                "training_data": bundle.manifest.training.get("data"),
                "metrics": bundle.manifest.metrics,
                "categories": bundle.manifest.taxonomy.labels(),
            }
            for name, bundle in self._bundles.items()
        }

    def mask(self, image: bytes, model: str) -> Masked:
        """See ``Masker``; the inference that compiles for a new size is not the one that is timed."""
        try:
            bgr = photo_to_bgr(EncodedPixels("file", image))
            with self._lock:
                if model not in self._engines:
                    self._engines[model] = create_engine(self._bundles[model], self._engine)
                engine = self._engines[model]
                if (model, bgr.shape[:2]) not in self._warm:
                    engine.infer(bgr, confidence=True)
                    self._warm.add((model, bgr.shape[:2]))
                started = time.monotonic()
                mask, confidence = engine.infer(bgr, confidence=True)
                elapsed = 1000 * (time.monotonic() - started)
        except (UndecodableError, EngineError) as error:
            raise MaskError(str(error)) from error
        return Masked(mask, confidence, elapsed, engine.name)


class Remote:
    """Masks from the HTTP API of ``python -m seg_node serve``.

    Args:
        url: for instance ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def models(self) -> Mapping[str, dict[str, Any]]:
        """See ``Masker``."""
        listed = json.loads(self._ask("/v1/models")[0])["models"]
        return {model["name"]: model for model in listed}

    def mask(self, image: bytes, model: str) -> Masked:
        """See ``Masker``; the latency is what the server says of its engine, without the network."""
        query = urllib.parse.urlencode({"model": model, "format": "png"})
        mask, headers = self._ask(f"/v1/segment?{query}", image)
        confidence, _ = self._ask(f"/v1/segment?{query}&confidence=1", image)
        timing = dict(part.split(";dur=") for part in headers["Server-Timing"].split(", "))
        return Masked(_grey(mask), _grey(confidence), float(timing["inference"]), headers["X-Engine"])

    def _ask(self, path: str, image: bytes | None = None) -> tuple[bytes, Mapping[str, str]]:
        media_type = "image/png" if image and image.startswith(b"\x89PNG") else "image/jpeg"
        request = urllib.request.Request(self.url + path, image, {"Content-Type": media_type} if image else {})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            raise MaskError(f"{self.url} answers {error.code}: {_reason(error)}") from error
        except OSError as error:
            raise MaskError(f"{self.url} cannot be reached ({error}); start it with `make serve`") from error


def _grey(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return json.loads(error.read())["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return error.reason
