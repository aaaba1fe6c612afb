"""All backbones over the frames of a drive without any hurry: accuracy, flicker, disagreement, pictures."""

import base64
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.compare.comparison import Comparison, Disagreement, FlickerColumns, Picture, Scored
from seg_node.compare.consistency import disagreement, flicker
from seg_node.core.bundle import Bundle
from seg_node.core.engines import create_engine
from seg_node.core.grouping import IN_THE_EIGHT, Scoring
from seg_node.core.metrics import confusion_with_misses
from seg_node.core.overlay import paint
from seg_node.core.taxonomy import EIGHT, Taxonomy

_PICTURE_WIDTH = 480
_PICTURES = 4
_APART_S = 1.0
"""Pictures show frames at least so far apart."""
_ALPHA = 0.65
"""Share of the mask's colours in the pictures."""
_DIFFERENT_BGR = (0, 159, 230)
"""Orange of Okabe and Ito's palette, which colour-blind people tell apart from grey."""


@dataclass
class OfflineMasks:
    """Masks of all backbones of the chosen frames, compressed."""

    frames: list[int]
    """Index in the drive of each chosen frame that can be decoded."""
    shape: tuple[int, int]
    data: list[dict[int, bytes]]
    """zlib-compressed mask by backbone and frame."""

    def get(self, model: int, frame: int) -> np.ndarray:
        """Mask, uint8 [H, W]."""
        return np.frombuffer(zlib.decompress(self.data[model][frame]), np.uint8).reshape(self.shape)


def choose_frames(count: int, affordable: int) -> list[int]:
    """All frames, or as many as time allows: pairs of neighbours, for the flicker, spread evenly over the drive."""
    if affordable >= count:
        return list(range(count))
    pairs = max(1, affordable // 2)
    firsts = np.linspace(0, count - 2, pairs).round().astype(int) if count > 1 else [0]
    return sorted({int(i) for first in firsts for i in (first, min(first + 1, count - 1))})


def segment_offline(
    bundles: Sequence[Bundle], drive: Drive, seconds: float, engine: str = "auto", threads: int = 0
) -> OfflineMasks:
    """Mask frames with all backbones, the same engine that the nodes have, in this process.

    Args:
        bundles: one of each backbone.
        drive: whose images.
        seconds: about so long; decides how many frames there are.
        engine, threads: see ``create_engine``.

    Raises:
        EngineError: an engine cannot run a bundle.
    """
    images = {}

    def image(frame: int) -> np.ndarray | None:
        if frame not in images:
            images.clear()
            images[frame] = decode(drive.frames[frame])
        return images[frame]

    first = next(image(i) for i in range(len(drive.frames)) if image(i) is not None)
    engines = [create_engine(bundle, engine, threads) for bundle in bundles]
    cost = 0.0
    for each in engines:
        each.warm_up(first.shape[:2])
        since = time.monotonic()
        each.infer(first)
        cost += time.monotonic() - since
    chosen = choose_frames(len(drive.frames), int(seconds / max(cost, 1e-6)))
    masks = OfflineMasks([i for i in chosen if image(i) is not None], first.shape[:2], [{} for _ in bundles])
    for frame in masks.frames:
        for model, each in enumerate(engines):
            masks.data[model][frame] = zlib.compress(each.infer(image(frame))[0].tobytes(), 1)
    return masks


def evaluate_offline(
    comparison: Comparison,
    drive: Drive,
    truth: Mapping[int, np.ndarray],
    masks: OfflineMasks,
    scorings: Sequence[Scoring] = (),
    taxonomies: Sequence[Taxonomy] = (),
) -> None:
    """Add accuracy, flicker, disagreement and pictures of the worst frames to a comparison.

    Args:
        comparison: gets the results.
        drive: whose images.
        truth: ground truth, uint8 [H, W], by index in the drive.
        masks: of ``segment_offline``.
        scorings: of the backbones, all in the same categories, which the truth has already; none for the eight.
        taxonomies: of the backbones, for the pictures; none for the eight.
    """
    scored = [frame for frame in masks.frames if frame in truth]
    models = range(len(comparison.models))
    scorings = scorings or [IN_THE_EIGHT] * len(models)

    def common(model: int, frame: int) -> np.ndarray:
        return scorings[model].of_mask(masks.get(model, frame))

    for model in models:
        if scored:
            taxonomy = scorings[model].taxonomy
            confusions = [confusion_with_misses(truth[frame], common(model, frame), len(taxonomy)) for frame in scored]
            comparison.offline.append(Scored.of(model, 0, scored, confusions, taxonomy=taxonomy))
        comparison.flicker.append(_flicker(model, drive, masks.frames, common))
    shares = [disagreement([common(model, frame) for model in models]) for frame in masks.frames]
    comparison.disagreement = Disagreement(masks.frames, [round(share, 3) for share in shares])
    names = [model.name for model in comparison.models]
    for frame, why in worst_frames(comparison):
        own = [masks.get(model, frame) for model in models]
        panels = _panels(drive, frame, truth.get(frame), own, names, taxonomies, comparison.taxonomy)
        panels |= _disagreement_panel(drive, frame, [common(model, frame) for model in models])
        comparison.pictures.append(Picture(frame, comparison.drive.times_s[frame], why, panels))


def _flicker(
    model: int, drive: Drive, frames: Sequence[int], mask_of: Callable[[int, int], np.ndarray]
) -> FlickerColumns:
    columns = FlickerColumns(model, [], [], [], [])
    for before, now in zip(frames, frames[1:], strict=False):
        if now != before + 1:
            continue
        pictures = decode(drive.frames[before]), decode(drive.frames[now])
        found = flicker(*pictures, mask_of(model, before), mask_of(model, now))
        columns.frame.append(now)
        columns.changed.append(found.changed)
        columns.unexplained.append(found.unexplained)
        columns.followed.append(found.followed)
    return columns


def worst_frames(comparison: Comparison) -> list[tuple[int, str]]:
    """Frames worth looking at, with what is special about each: where each backbone is worst, where they differ most.

    Without ground truth, where they differ most.
    """
    ranked: list[list[tuple[int, str]]] = []
    for scored in comparison.offline:
        values = scored.per_frame()
        name, headline = comparison.models[scored.model].name, comparison.taxonomy.headline
        ranked.append(
            [
                (scored.frame[i], f"among the worst frames of {name}: {headline} {values[i]:.1f} % in this frame alone")
                for i in np.argsort(values)
                if np.isfinite(values[i])
            ]
        )
    if differing := comparison.disagreement:
        order = np.argsort(differing.share)[::-1]
        ranked.append(
            [
                (differing.frame[i], f"the backbones disagree about {differing.share[i]:.1f} % of the pixels")
                for i in order
            ]
        )
    chosen: list[tuple[int, str]] = []
    times = comparison.drive.times_s
    for turn in range(_PICTURES * max(len(ranked), 1)):
        candidates = ranked[turn % len(ranked)] if ranked else []
        far = (
            (frame, why)
            for frame, why in candidates
            if all(abs(times[frame] - times[other]) >= _APART_S for other, _ in chosen)
        )
        if len(chosen) < _PICTURES and (found := next(far, None)):
            chosen.append(found)
    return chosen


def _panels(
    drive: Drive,
    frame: int,
    truth: np.ndarray | None,
    masks: list[np.ndarray],
    names: list[str],
    taxonomies: Sequence[Taxonomy],
    common: Taxonomy,
) -> dict[str, str]:
    """Pictures of a frame: masks in the categories of their models, the truth in the common ones."""
    bgr = decode(drive.frames[frame])
    panels = {"camera": bgr}
    if truth is not None:
        panels["ground truth"] = paint(bgr, truth, _ALPHA, common)
    for name, mask, taxonomy in zip(names, masks, taxonomies or [EIGHT] * len(masks), strict=True):
        panels[name] = paint(bgr, mask, _ALPHA, taxonomy)
    return {title: _jpeg(picture) for title, picture in panels.items()}


def _disagreement_panel(drive: Drive, frame: int, masks: list[np.ndarray]) -> dict[str, str]:
    """Where masks of one list of categories differ."""
    bgr = decode(drive.frames[frame])
    grey = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    differs = np.any([mask != masks[0] for mask in masks[1:]], axis=0)
    grey[differs] = (0.25 * grey[differs] + 0.75 * np.array(_DIFFERENT_BGR)).astype(np.uint8)
    return {"where they disagree": _jpeg(grey)}


def _jpeg(bgr: np.ndarray) -> str:
    width = min(_PICTURE_WIDTH, bgr.shape[1])
    small = cv2.resize(bgr, (width, round(bgr.shape[0] * width / bgr.shape[1])), interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]).decode()
