"""The models that are served: one worker thread each, in which images are decoded, masked and encoded.

Where an engine masks several images at once in less time than one after the other, as on a GPU, the images that came
while it was busy go through it together. No image waits for others to come.
"""

import asyncio
import concurrent.futures
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from seg_node.core.bundle import Bundle, BundleError, load_bundle, shipped_bundles
from seg_node.core.engines import Engine
from seg_node.core.errors import UndecodableError
from seg_node.core.exif import photo_to_bgr
from seg_node.core.images import EncodedPixels
from seg_node.web.api.errors import ApiError
from seg_node.web.api.limits import Deadline
from seg_node.web.api.worker import Worker

log = logging.getLogger(__name__)

WARM_UP_SIZE = (720, 1280)
"""Height and width in pixels, as of the node."""

STAGES = ("wait", "decode", "inference", "encode")
"""Stages of an image's way through a worker, in order. Between them, images that are masked together wait for each
other."""

MAX_BATCH = 8
"""Images that go through an engine at once: more gain little, and each takes memory."""

_GIVEN_UP_SECONDS = 0.5
"""Time between two questions whether a mask is still wanted."""


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
    """Milliseconds of each stage."""
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
    """Readings of the steady clock: when it was submitted, and the end of each stage."""
    bgr: np.ndarray | None = None
    """Pixels, uint8 [H, W, 3], once the image is decoded."""

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
        self._loading, self._load_failed = False, False
        self._worker = Worker(bundle.name)

    @property
    def ready(self) -> bool:
        """Whether the engine is loaded and warm."""
        return self._engine is not None

    @property
    def load_failed(self) -> bool:
        """Whether the last attempt to load failed."""
        return self._load_failed

    @property
    def loading_seconds(self) -> float:
        """Time since the engine has been loading, in seconds; 0 while it is not."""
        return self._worker.busy_seconds if self._loading else 0.0

    @property
    def busy_seconds(self) -> float:
        """Time since the worker has been in one step of its work, in seconds; 0 while it waits or loads."""
        return 0.0 if self._loading else self._worker.busy_seconds

    @property
    def waiting(self) -> int:
        """Images and frames of videos that wait for the worker."""
        return self._worker.waiting

    def load(self) -> None:
        """Begin to load and warm up in the worker."""
        self._worker.put(self._load_logged)

    def close(self) -> None:
        """Finish the image that is worked on, and no other; one that does not end is left behind."""
        for job in self._worker.take_others(self._turn, sys.maxsize):
            job.answer.cancel()
        self._worker.close()

    async def segment(
        self, image: EncodedPixels, confidence: bool, encode: Callable[[Segmented], Encoded], deadline: Deadline
    ) -> Answer:
        """Mask one image.

        Args:
            image: as it was received.
            confidence: compute it too.
            encode: makes the answer of the masks; called in the worker.
            deadline: of the answer; after it nothing is kept of an image that waits.

        Raises:
            ApiError: 422 if the image cannot be decoded, 504 after the deadline.
        """
        job = _Job(image, confidence, encode)
        turn = self._worker.put(self._turn, job)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), deadline.left)
        except asyncio.TimeoutError:
            message = f"no answer within {deadline.seconds:g} s; try again later"
            raise ApiError(504, "timeout", message, retry_after=1) from None
        except UndecodableError as error:
            raise ApiError(422, "undecodable", str(error)) from None
        finally:
            # Where it waits still, it must not be kept until the worker comes to it, which may be never.
            self._worker.withdraw(turn)

    def infer(self, bgr: np.ndarray, given_up: Callable[[], bool] = lambda: False) -> np.ndarray:
        """Mask of a decoded image, uint8 [H, W]; waits for its turn with the worker.

        Args:
            bgr: uint8 [H, W, 3].
            given_up: asked now and then, whether the mask is not wanted any more.

        Raises:
            InterruptedError: it was given up, or the model was closed.
        """
        answer: Future[np.ndarray] = Future()

        def work() -> None:
            try:
                answer.set_result(self._loaded().infer(bgr)[0])
            except Exception as error:
                answer.set_exception(error)

        turn = self._worker.put(work)
        while True:
            try:
                return answer.result(_GIVEN_UP_SECONDS)
            except concurrent.futures.TimeoutError:
                if answer.done():
                    # The engine's own error, which happens to be of this class.
                    raise
                if given_up() or self._worker.closed:
                    self._worker.withdraw(turn)
                    raise InterruptedError("the mask is not wanted any more") from None

    def _turn(self, first: _Job) -> None:
        """Work on a job, and on those behind it if the engine takes several at once."""
        jobs = [first]
        if self._engine and self._engine.batches:
            jobs += self._worker.take_others(self._turn, MAX_BATCH - 1)
        # What nobody waits for any more is not worked on.
        jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
        try:
            engine = self._loaded()
        except Exception as error:
            # Whatever an engine's library raises is the answer to every request for the model.
            for job in jobs:
                job.answer.set_exception(error)
            return
        for batch in self._batches(jobs):
            self._mask(engine, batch)

    def _batches(self, jobs: Iterable[_Job]) -> list[list[_Job]]:
        """Decode images, answer those that cannot be decoded, and group those that fit into one inference."""
        groups: dict[tuple[tuple[int, ...], bool], list[_Job]] = {}
        for job in jobs:
            self._worker.begin_step()
            job.stage_ended()
            try:
                job.bgr = photo_to_bgr(job.image)
            except Exception as error:
                # UndecodableError, or the lack of memory; either is this image's alone.
                job.answer.set_exception(error)
                continue
            job.stage_ended()
            groups.setdefault((job.bgr.shape, job.confidence), []).append(job)
        return list(groups.values())

    def _mask(self, engine: Engine, jobs: list[_Job]) -> None:
        """Mask decoded images of one size, and answer."""
        self._worker.begin_step()
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
            self._worker.begin_step()
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
            self._worker.begin_step()
            self._loading, self._load_failed = True, False
            try:
                engine = self._create(self.bundle)
                engine.warm_up(WARM_UP_SIZE)
            except BaseException:
                self._load_failed = True
                raise
            finally:
                self._loading = False
                self._worker.begin_step()
            log.info("%s on %s (%s): %s", self.bundle.name, engine.name, engine.device, engine.reason)
            self._engine = engine
        return self._engine

    def _load_logged(self) -> None:
        try:
            self._loaded()
        except Exception:
            # Whatever an engine's library raises, /readyz and every request for the model will say that it failed.
            log.exception("cannot load %s", self.bundle.name)


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

    def __iter__(self) -> Iterator[Model]:
        """All models; the default is the first."""
        return iter(self._models.values())

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
                "training_data_terms": manifest.training_data_terms,
                "commercial_use": manifest.commercial_use,
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
