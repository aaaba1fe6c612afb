"""What a comparison of two backbones found, and its one JSON file; ``docs/compare_schema.md`` describes every field."""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.compare.now_results import Gain, NowMeasured
from seg_node.compare.statistics import LEVEL, hits_and_unions, mean_iou
from seg_node.core.errors import UserError
from seg_node.core.metrics import scores
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.core.timing import Stage
from seg_node.rig.frames import Run

SCHEMA = "seg_node/comparison"
VERSION = 1
MEANS = ("miou_7", "miou_8", "miou")
"""Mean IoUs that ``core.metrics.scores`` may give."""


class ComparisonError(UserError):
    """A comparison cannot be made or read; the message says why and what to do."""


@dataclass
class DriveFacts:
    """What was played."""

    path: str
    topic: str
    hash: str
    """See ``bags.reader.bag_hash``."""
    width: int
    height: int
    rate_hz: float
    transport: str
    """``raw`` or ``compressed``."""
    truth: str
    """Where ground truth came from; empty without it."""
    truth_frames: int
    """Frames with ground truth."""
    times_s: list[float]
    """When each frame was recorded, from the first one on."""
    made_up: bool = False
    """Whether it was drawn by the generator whose scenes the shipped models were trained on, too."""


@dataclass
class Backbone:
    """One of the compared models."""

    name: str
    """Name of the bundle, with a number where both are the same; name of the node where it was attached."""
    backbone: str = ""
    """Encoder; empty where unknown."""
    sha256: str = ""
    """Hash of the graph; empty where unknown."""
    precision: str = ""
    """Precision of the stored weights."""
    engine: str = ""
    """Engine, as the node said."""
    device: str = ""
    training: str = ""
    """Data of the training, from the manifest."""
    labels: list[dict[str, Any]] = field(default_factory=list)
    """``name`` and ``rgb`` of each category, in the order of the ids; empty for the eight."""


@dataclass
class FrameColumns:
    """One entry per published frame, in the order of publishing. Times in milliseconds; None where there is none."""

    frame: list[int]
    """Index in the drive."""
    due: list[float]
    """Since the run's first frame was due."""
    sent: list[float]
    """On the same clock."""
    outcome: list[str]
    """End of the frame as the node recorded it; ``lost`` where the frame never reached the node."""
    mask: list[float | None]
    """From publishing the frame until its mask arrived."""
    stages: dict[str, list[float | None]]
    """Milliseconds of each stage, as the node measured them."""

    @classmethod
    def of(cls, run: Run) -> "FrameColumns":
        """Columns of everything that a run saw."""
        start = run.frames[0].due
        records = [frame.record for frame in run.frames]
        return cls(
            frame=[frame.frame for frame in run.frames],
            due=[_ms(frame.due - start) for frame in run.frames],
            sent=[_ms(frame.sent - start) for frame in run.frames],
            outcome=[record.outcome.value if record else "lost" for record in records],
            mask=[_ms(frame.mask.arrived - frame.sent) if frame.mask else None for frame in run.frames],
            stages={
                stage.value: [
                    round(record.stages[stage], 3) if record and stage in record.stages else None for record in records
                ]
                for stage in Stage
            },
        )


@dataclass
class Measured:
    """One run of one backbone at one rate."""

    model: int
    """Index in ``Comparison.models``."""
    repetition: int
    """From 0."""
    purpose: str
    """``recorded``, ``listened`` (the same with somebody who listens to the mask of now), ``fixed`` (a rate in Hz),
    ``overload`` (a multiple of the sustained rate) or ``saturation`` (a multiple of what the process can do)."""
    rate: str
    """For people, such as ``10 Hz`` or ``1.5x sustained``."""
    hz: float
    """Mean rate of publishing that was asked for."""
    warm_up: int
    """Frames at the start that are counted but left out of latencies and accuracy."""
    counts: dict[str, int]
    """Frames ``sent``, ``lost``, ``received``, ``masked`` and by drop reason, warm-up included."""
    faults: list[str]
    """Where the counts do not add up; empty when all is well."""
    frames: FrameColumns
    masks_per_second: float | None = None
    longest_blind_ms: float | None = None
    """Longest time in which no newer mask arrived."""
    jitter_ms: float | None = None
    """Standard deviation of the time between masks."""
    usage: dict[str, float | None] | None = None
    """See ``scoring.summarise_usage``; None where the process is not known."""
    age_mean_ms: float | None = None
    """Mean age of the newest mask's frame; see ``scoring.age_of_information``."""
    age_peak_ms: float | None = None
    """Mean of that age just before each newer mask."""

    @property
    def settled(self) -> slice:
        """Frames whose latency counts: after the warm-up, without the last one.

        The last frame is superseded by none, so that under overload it waits for the worker as no frame does while the
        camera goes on.
        """
        return slice(self.warm_up, -1)

    def latencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Camera to mask of the settled frames: milliseconds, float [N], and index in the drive, int [N]."""
        pairs = [
            (mask, frame)
            for mask, frame in zip(self.frames.mask[self.settled], self.frames.frame[self.settled], strict=True)
            if mask is not None
        ]
        values = np.array(pairs, float).reshape(-1, 2)
        return values[:, 0], values[:, 1].astype(int)


@dataclass
class Sustained:
    """How many frames per second one process keeps up with.

    ``hz`` and ``ceiling`` bracket the highest rate at which at most ``max_dropped`` of the frames get no mask; one
    search is a bracket, which decides nothing. ``saturated_hz`` is measured in every process, and decides.
    """

    model: int
    repetition: int
    hz: float | None
    """Highest rate that passed; None where none did."""
    ceiling: float | None
    """Lowest rate above it that failed; None where none did."""
    max_dropped: float
    """0..1."""
    probes: list[dict[str, Any]]
    """Each rate that was tried: ``rate``, ``achieved``, ``sent``, ``received``, ``masked``, ``passed``; none in those
    processes in which nothing was searched."""
    saturated_hz: float | None = None
    """Masks per second while more frames come than can be masked; None where it was not measured."""


@dataclass
class Scored:
    """Accuracy of one backbone over frames with ground truth, in percent."""

    model: int
    repetition: int
    """0 for offline accuracy, which does not vary."""
    miou_7: float | None
    """None where the comparison's categories are not the eight, as ``miou_8``."""
    miou_8: float | None
    iou: dict[str, float | None]
    """IoU of each category."""
    unanswered: int
    """Frames before the first mask: wrong everywhere."""
    frame: list[int]
    """Index in the drive of each scored frame."""
    hits: list[list[int]]
    """Per frame, pixels of each scored category, of the eight flat to vehicle, that were found."""
    unions: list[list[int]]
    """Per frame, pixels of each scored category in truth or prediction."""
    across_seam: int = 0
    """Instants that are not scored, because the drive had begun anew and the newest mask was still of its end."""
    miou: float | None = None
    """Mean IoU over the comparison's categories where they are not the eight."""

    @property
    def headline(self) -> float | None:
        """``miou_7``, or ``miou`` of other categories than the eight."""
        return self.miou if self.miou_7 is None else self.miou_7

    @classmethod
    def of(
        cls,
        model: int,
        repetition: int,
        frames: list[int],
        confusions: list[np.ndarray],
        unanswered: int = 0,
        across_seam: int = 0,
        taxonomy: Taxonomy = EIGHT,
    ) -> "Scored":
        """Summarise confusion matrices, one per frame, each [N, N] or [N, N + 1] of N categories; at least one."""
        total = scores(sum(confusions[1:], confusions[0]), taxonomy)
        parts = [hits_and_unions(confusion, taxonomy) for confusion in confusions]
        hits, unions = [hit.tolist() for hit, _ in parts], [union.tolist() for _, union in parts]
        # Not a number where nothing is labelled.
        means = {name: total[name] for name in MEANS if name in total and math.isfinite(total[name])}
        miou_7, miou_8, miou = map(means.get, MEANS)
        return cls(model, repetition, miou_7, miou_8, total["iou"], unanswered, frames, hits, unions, across_seam, miou)

    def per_frame(self) -> np.ndarray:
        """``headline`` of each frame alone, float [N], NaN where nothing was labelled."""
        return mean_iou(np.array(self.hits), np.array(self.unions))


@dataclass
class FlickerColumns:
    """Change between the masks of consecutive frames; see ``compare.consistency.Flicker``. In percent."""

    model: int
    frame: list[int]
    """The later one of each pair, index in the drive."""
    changed: list[float]
    unexplained: list[float | None]
    followed: list[float]


@dataclass
class Disagreement:
    """Share of pixels to which backbones give different categories, in percent."""

    frame: list[int]
    """Index in the drive."""
    share: list[float]


@dataclass
class Picture:
    """One frame as a picture: camera, ground truth if there is any, both masks, where they disagree."""

    frame: int
    time_s: float
    text: str
    """What is to be seen, for the caption and for those who do not see it."""
    panels: dict[str, str]
    """Title of each panel -> base64 of a JPEG."""


@dataclass
class Difference:
    """Second backbone minus first, with its interval; None where an end is not bounded."""

    estimate: float
    low: float | None
    high: float | None


@dataclass
class Verdict:
    """Answer to one question."""

    question: str
    """``latency_p50``, ``latency_p99``, ``sustained``, ``streaming`` or ``offline``."""
    title: str
    unit: str
    lower_is_better: bool
    values: list[float | None]
    """Means over the processes of the two backbones."""
    difference: Difference | None
    """None where the question could not be asked."""
    winner: int | None
    """Place of the backbone in ``Comparison.models``; None where no winner is named."""
    reason: str
    """One sentence."""
    paired: Difference | None = None
    """Median difference of the latencies of those frames that both masked."""
    paired_frames: int = 0
    models: list[int] = field(default_factory=lambda: [0, 1])
    """The two backbones, as places in ``Comparison.models``."""
    level: float = LEVEL
    """Confidence of this interval, after the corrections for several pairs of backbones and several looks."""
    block_s: float | None = None
    """Length of the blocks of the drive in seconds; None where the scene does not enter."""


@dataclass
class Decision:
    """Which backbone should drive."""

    winner: int | None
    trade: bool
    """Whether speed and accuracy point in different directions."""
    sentence: str
    """In plain words, with numbers."""


@dataclass
class Comparison:
    """Two or more backbones on one drive on one machine."""

    created: str
    """ISO 8601, UTC."""
    machine: dict[str, Any]
    versions: dict[str, str]
    configuration: dict[str, Any]
    """Every option and every length of the plan."""
    harness: dict[str, Any]
    """Self-test: what the harness sustains without the node."""
    drive: DriveFacts
    models: list[Backbone]
    sustained: list[Sustained] = field(default_factory=list)
    runs: list[Measured] = field(default_factory=list)
    streaming: list[Scored] = field(default_factory=list)
    offline: list[Scored] = field(default_factory=list)
    streaming_listened: list[Scored] = field(default_factory=list)
    """Accuracy of ``~/mask`` in the runs in which somebody listens to the mask of now, too."""
    streaming_now: list[Scored] = field(default_factory=list)
    """Accuracy of ``~/mask_now`` in the same runs."""
    now: list[NowMeasured] = field(default_factory=list)
    gains: list[Gain] = field(default_factory=list)
    """See ``compare.now_gain.gains``."""
    flicker: list[FlickerColumns] = field(default_factory=list)
    disagreement: Disagreement | None = None
    pictures: list[Picture] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    decision: Decision | None = None
    categories: list[dict[str, Any]] = field(default_factory=list)
    """``name`` and ``rgb`` of each category in which masks and ground truth are scored; empty for the eight."""
    rule: str = ""
    """Rule by which the verdicts were made, see ``verdict.RULE``; empty in files that are older than its name."""
    duration_s: float = 0.0
    """Seconds that the whole comparison took."""

    @property
    def taxonomy(self) -> Taxonomy:
        """Categories in which masks and ground truth are scored."""
        return Taxonomy.of_labels(self.categories) if self.categories else EIGHT

    @property
    def repetitions(self) -> int:
        """Runs of each backbone at the recorded rate, each in a process of its own."""
        return 1 + max((run.repetition for run in self.runs), default=0)

    @property
    def level(self) -> float:
        """Confidence of each question: that of all looks together, shared out among them (Bonferroni)."""
        return 1 - (1 - LEVEL) / self.configuration.get("looks", 1)

    @property
    def faults(self) -> list[str]:
        """Where counts do not add up, with the run."""
        return [
            f"{self.models[run.model].name}, run {run.repetition + 1}, {run.rate}: {fault}"
            for run in self.runs
            for fault in run.faults
        ]

    def save(self, path: Path) -> None:
        """Write the JSON file; what is not a number becomes null."""
        document = {"schema": SCHEMA, "version": VERSION, **_plain(dataclasses.asdict(self))}
        path.write_text(json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n")


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison's JSON file.

    Raises:
        ComparisonError: it cannot be read, is none, or is of a version that this one does not know.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ComparisonError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ComparisonError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ComparisonError(f"{path} is no comparison; expected the comparison.json that `seg_node compare` wrote")
    if document.get("version") != VERSION:
        raise ComparisonError(
            f"{path} has version {document.get('version')!r} of the schema, this seg_node reads {VERSION};"
            " read it with the seg_node that wrote it, or compare again"
        )
    values = {key: value for key, value in document.items() if key not in ("schema", "version")}
    try:
        return _read(Comparison, values, "comparison")
    except (TypeError, KeyError) as error:
        raise ComparisonError(f"{path} does not follow the schema: {error}") from error


def _read(kind: Any, value: Any, where: str) -> Any:
    """Make nested dataclasses of plain JSON values."""
    if isinstance(kind, types.UnionType):
        choices = [choice for choice in typing.get_args(kind) if choice is not types.NoneType]
        return None if value is None else _read(choices[0], value, where)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            raise TypeError(f"{where} is no object")
        if unknown := value.keys() - hints.keys():
            raise TypeError(f"{where} has unknown fields {', '.join(sorted(unknown))}")
        return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    if typing.get_origin(kind) is list and dataclasses.is_dataclass(typing.get_args(kind)[0]):
        return [_read(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)
