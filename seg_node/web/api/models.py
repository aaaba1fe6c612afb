"""The models that are served: one worker thread each, in which images are decoded, masked and encoded.

Where an engine masks several images at once in less time than one after the other, as on a GPU, the images that came
while it was busy go through it together. No image waits for others to come.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from seg_node.core.bundle import Bundle, BundleError, load_bundle, shipped_bundles
from seg_node.core.engines import Engine
from seg_node.core.errors import UndecodableError
from seg_node.core.images import EncodedPixels, to_bgr
from seg_node.web.api.errors import ApiError

log = logging.getLogger(__name__)

WARM_UP_SIZE = (720, 1280)
"""Height and width in pixels, as of the node."""

STAGES = ("wait", "decode", "inference", "encode")
"""Of an image's way through a worker, in order. Images that are masked together wait for each other between them."""

MAX_BATCH = 8
"""Images that go through an engine at once: more gain little, and each takes memory."""


@dataclass(frozen=True)
class Segmented:
    """An image with its mask."""

    bgr: np.ndarray
    """uint8 [H, W, 3]."""
    mask: np.ndarray
    """uint8 [H, W], category ids."""
    confidence: np.ndarray | None
    """uint8 [H, W], greatest softmax in 0..255, where asked for."""


@dataclass(frozen=True)
class Encoded:
    """A picture or JSON as it goes out."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class Answer:
    """What a worker made of an image."""

    encoded: Encoded
    milliseconds: dict[str, float]
    """By stage."""
    model: str
    engine: str
    batch: int
    """Images that went through the engine together, this one among them."""


@dataclass
class _Job:
    """An image that waits for the worker, or is worked on."""

    image: EncodedPixels
    confidence: bool
    encode: Callable[[Segmented], Encoded]
    answer: Future[Answer] = field(default_factory=Future)
    times: list[float] = field(default_factory=lambda: [time.monotonic()])
    """On the steady clock: submitted, and the end of each stage."""
    bgr: np.ndarray | None = None
    """Once it is decoded."""

    def stage_ended(self) -> None:
        self.times.append(time.monotonic())


class Model:
    """A bundle with its engine and the one thread that uses it.

    Args:
        bundle: checked.
        create: makes the engine; called in the worker when it is first needed.
    """

    def __init__(self, bundle: Bundle, create: Callable[[Bundle], Engine]):
        self.bundle = bundle
        self._create = create
        self._engine: Engine | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=bundle.name)
        self._jobs: deque[_Job] = deque()

    @property
    def ready(self) -> bool:
        """Whether the engine is loaded and warm."""
        return self._engine is not None

    def load(self) -> None:
        """Begin to load and warm up in the worker."""
        self._executor.submit(self._load_logged)

    def close(self) -> None:
        """Finish the image that is worked on, and no other."""
        self._executor.shutdown(cancel_futures=True)
        for job in self._jobs:
            job.answer.cancel()

    async def segment(
        self, image: EncodedPixels, confidence: bool, encode: Callable[[Segmented], Encoded], timeout: float
    ) -> Answer:
        """Mask one image.

        Args:
            image: as it was received.
            confidence: compute it too.
            encode: makes the answer of the masks; called in the worker.
            timeout: seconds to wait for it.

        Raises:
            ApiError: 422 if the image cannot be decoded, 504 after the timeout.
        """
        job = _Job(image, confidence, encode)
        self._jobs.append(job)
        # As many turns as jobs: each finds one at least, unless an earlier turn took several.
        self._executor.submit(self._turn)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), timeout)
        except asyncio.TimeoutError:
            raise ApiError(504, "timeout", f"no answer within {timeout:g} s; try again later", retry_after=1) from None
        except UndecodableError as error:
            raise ApiError(422, "undecodable", str(error)) from None

    def infer(self, bgr: np.ndarray) -> np.ndarray:
        """Mask of a decoded image, uint8 [H, W]; waits for its turn with the worker."""
        return self._executor.submit(lambda: self._loaded().infer(bgr)[0]).result()

    def _turn(self) -> None:
        """Work on the job that has waited longest, and on those behind it if the engine takes several at once."""
        jobs: list[_Job] = []
        while self._jobs and len(jobs) < (MAX_BATCH if self._engine and self._engine.batches else 1):
            job = self._jobs.popleft()
            # What nobody waits for any more is not worked on.
            if job.answer.set_running_or_notify_cancel():
                jobs.append(job)
        try:
            engine = self._loaded()
        except Exception as error:
            # Whatever an engine's library raises is the answer to every request for the model.
            for job in jobs:
                job.answer.set_exception(error)
            return
        for batch in _batches(jobs):
            self._mask(engine, batch)

    def _mask(self, engine: Engine, jobs: list[_Job]) -> None:
        """Mask decoded images of one size, and answer."""
        try:
            masked = engine.infer_batch([job.bgr for job in jobs], jobs[0].confidence)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            # An image that an engine refuses must not take its neighbours with it.
            for job in jobs:
                self._mask(engine, [job])
            return
        for job in jobs:
            job.stage_ended()
        for job, (mask, confidence) in zip(jobs, masked, strict=True):
            try:
                encoded = job.encode(Segmented(job.bgr, mask, confidence))
            except Exception as error:
                job.answer.set_exception(error)
                continue
            job.stage_ended()
            spans = zip(STAGES, pairwise(job.times), strict=True)
            durations = {stage: 1000 * (end - start) for stage, (start, end) in spans}
            job.answer.set_result(Answer(encoded, durations, self.bundle.name, engine.name, len(jobs)))

    def _loaded(self) -> Engine:
        if self._engine is None:
            engine = self._create(self.bundle)
            engine.warm_up(WARM_UP_SIZE)
            log.info("%s on %s (%s): %s", self.bundle.name, engine.name, engine.device, engine.reason)
            self._engine = engine
        return self._engine

    def _load_logged(self) -> None:
        try:
            self._loaded()
        except Exception:
            # Whatever an engine's library raises, /readyz and every request for the model will say that it failed.
            log.exception("cannot load %s", self.bundle.name)


def _batches(jobs: Iterable[_Job]) -> list[list[_Job]]:
    """Decode images, answer those that cannot be decoded, and group those that can go through an engine together."""
    groups: dict[tuple[tuple[int, ...], bool], list[_Job]] = {}
    for job in jobs:
        job.stage_ended()
        try:
            job.bgr = to_bgr(job.image)
        except Exception as error:
            # UndecodableError, or the lack of memory; either is this image's alone.
            job.answer.set_exception(error)
            continue
        job.stage_ended()
        groups.setdefault((job.bgr.shape, job.confidence), []).append(job)
    return list(groups.values())


def served_bundles(given: Sequence[str], default: str) -> list[Bundle]:
    """Bundles that a server offers: those that are given, and the shipped ones of other names.

    Args:
        given: by path or name; the first is the default model.
        default: the default model where none is given.

    Raises:
        BundleError: a bundle must not be used, or two that are given have one name.
    """
    bundles = [load_bundle(name) for name in given or [default]]
    names = [bundle.name for bundle in bundles]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"two bundles are named {', '.join(sorted(twice))}; requests could not tell them apart")
    return bundles + [load_bundle(path) for name, path in shipped_bundles().items() if name not in names]


class Models:
    """All models that are served, by name.

    Args:
        bundles: of different names; the first is the default.
        create: see ``Model``.
    """

    def __init__(self, bundles: Sequence[Bundle], create: Callable[[Bundle], Engine]):
        self._models = {bundle.name: Model(bundle, create) for bundle in bundles}
        self.default = self._models[bundles[0].name]

    def find(self, name: str | None) -> Model:
        """Model of a name, or the default.

        Raises:
            ApiError: 404 if there is none; the message lists those there are.
        """
        if name is None:
            return self.default
        if name not in self._models:
            raise ApiError(404, "unknown_model", f"no model {name!r}; there are {', '.join(self._models)}")
        return self._models[name]

    def describe(self) -> list[dict[str, Any]]:
        """Manifests for clients, without what a manifest may say of the machine on which it was made."""
        return [
            {
                "name": manifest.name,
                "default": model is self.default,
                "loaded": model.ready,
                "decoder": manifest.decoder,
                "backbone": manifest.backbone,
                "input_size": manifest.input_size,
                "precision": manifest.precision,
                "parameters": manifest.parameters or None,
                "gflops": manifest.gflops or None,
                "date": manifest.date,
                "licence": manifest.licence,
                "training_data": manifest.training.get("data"),
                "metrics": manifest.metrics,
                "categories": [
                    {"id": number, "name": name, "rgb": colour}
                    for number, (name, colour) in enumerate(zip(manifest.categories, manifest.palette, strict=True))
                ],
            }
            for model in self._models.values()
            for manifest in [model.bundle.manifest]
        ]

    def close(self) -> None:
        """Stop all workers."""
        for model in self._models.values():
            model.close()
