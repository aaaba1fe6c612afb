"""``python -m seg_node compare``: which backbone should drive, on this machine, on this drive."""

import argparse
import dataclasses
import datetime
import hashlib
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

from seg_node.bags.drive import Drive
from seg_node.bags.reader import BagError, bag_hash
from seg_node.commands.options import (
    LONGEST_FORECAST_MS,
    SHIPPED_DRIVE,
    add_drive,
    add_engine,
    add_grouping,
    add_threads,
    check_forecast,
    exit_on_sigterm,
    load_drive,
    make_folder,
    node_categories,
    node_process,
    require_engine,
    require_ros,
    with_truth_categories,
)
from seg_node.compare.comparison import Backbone, Comparison, ComparisonError, DriveFacts, load_comparison
from seg_node.compare.now_gain import gains
from seg_node.compare.page import to_html
from seg_node.compare.plan import QUICK, Plan, turns
from seg_node.compare.text import to_text
from seg_node.compare.verdict import RULE, judge, judged, undecided
from seg_node.core.bundle import DEFAULT_MODEL, Bundle, BundleError, load_bundle, shipped_bundles
from seg_node.core.grouping import Grouping, Scoring, load_grouping, scoring_of
from seg_node.core.machine import busy_cores, setting
from seg_node.core.share import shared_path
from seg_node.core.taxonomy import EIGHT, Taxonomy, in_short

_SELF_TEST_HZ = (60.0, 200.0)
_MOST = 16
_SEED = 20200824
"""Seed of the order in which processes run: any will do, and the same one makes a comparison repeatable."""
_STEP = 2
"""Processes of each backbone that ``--until-decided`` adds at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = add_drive(parser)
    source.add_argument("--from", type=Path, dest="source", metavar="JSON", help="make the page of a comparison anew")
    nodes = parser.add_mutually_exclusive_group()
    nodes.add_argument(
        "--models",
        nargs="+",
        metavar="BUNDLE",
        help="two or more shipped bundles, or paths of some; one twice shows how much is chance (default: all shipped)",
    )
    nodes.add_argument(
        "--attach", nargs=2, metavar="NODE", help="active nodes that somebody else started, such as /a/segmentation"
    )
    add_engine(parser)
    add_threads(parser)
    parser.add_argument(
        "--repetitions", type=_count, help=f"fresh processes of each backbone (default: {Plan().repetitions})"
    )
    parser.add_argument(
        "--until-decided",
        type=_count,
        nargs="?",
        const=_MOST,
        metavar="MOST",
        help=f"then add processes, two at a time, until the questions that they can answer have a winner or there are"
        f" MOST (default: {_MOST}); intervals are widened for the looks",
    )
    parser.add_argument("--rates", type=_hz, nargs="+", metavar="HZ", help="fixed rates (default: 10 20 30)")
    parser.add_argument(
        "--now",
        choices=["first", "all", "none"],
        help="whose ~/mask_now is measured, in one more run of each process (default: of the first model; none with"
        " --attach)",
    )
    parser.add_argument(
        "--forecast",
        type=float,
        metavar="MS",
        help="milliseconds ahead of its frame for which ~/mask_now holds (default: one frame of the drive)",
    )
    parser.add_argument("--masks", type=Path, help="folder of ground truth PNGs named by frame index or header stamp")
    add_grouping(parser)
    topics = parser.add_mutually_exclusive_group()
    topics.add_argument("--topic", help="image topic of the bag (default: the only one)")
    topics.add_argument(
        "--topics",
        nargs="+",
        metavar="TOPIC",
        help="image topics of the bag, played at once as the cameras of one node: masks a second and the longest time"
        " without one, of each and in all, instead of accuracy",
    )
    parser.add_argument("--mask-topic", help="ground truth topic of the bag (default: the only one named mask)")
    parser.add_argument("--frames", type=_count, help="use only so many frames of the drive")
    parser.add_argument("--quick", action="store_true", help="a minute that shows that it works; no verdict")
    parser.add_argument(
        "--out", type=Path, default=Path("compare_output"), help="folder to write (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Compare; returns the exit status: 0, 1 if a node failed or frames are unaccounted for, 2 for wrong input."""
    make_folder(options.out)
    if options.topics:
        return _compare_cameras(options)
    comparison = judged(load_comparison(options.source)) if options.source else _compare(options)
    return _report(comparison, options.out)


def _report(comparison: Comparison, out: Path) -> int:
    files = [out / "comparison.json", out / "comparison.html"]
    comparison.save(files[0])
    files[1].write_text(to_html(comparison))
    print(f"\n{to_text(comparison)}\n\nwritten:")
    for file in files:
        print(f"  {file}")
    return 1 if comparison.faults else 0


def _compare_cameras(options: argparse.Namespace) -> int:
    require_ros("a comparison")
    from seg_node.commands import compare_cameras

    bundles = _bundles(options)
    return compare_cameras.run(options, bundles, [model.name for model in _told_apart([*map(_backbone, bundles)])])


def _compare(options: argparse.Namespace) -> Comparison:
    require_ros("a comparison")
    from seg_node.bags.ground_truth import TruthByFrame, check_sizes
    from seg_node.bags.images import frame_size
    from seg_node.compare.measure import measure_process
    from seg_node.compare.offline import evaluate_offline, segment_offline
    from seg_node.rig.bench import AttachedNode
    from seg_node.rig.loopback import self_test
    from seg_node.rig.plan_bar import PlanBar
    from seg_node.rig.scoring import versions

    started = time.monotonic()
    if not options.attach:
        require_engine(options.engine)
    for name in options.attach or ():
        if not name.startswith("/"):
            raise ComparisonError(f"--attach needs the nodes' full names, such as /a/segmentation, not {name!r}")
    check_forecast(options.forecast)
    if options.attach and options.forecast is not None:
        raise ComparisonError("--forecast is for nodes that are started here; set forecast_ms of an attached one")
    bundles = [] if options.attach else _bundles(options)
    grouping = load_grouping(options.grouping) if options.grouping else None
    drive, truth_categories, truth_source = _load(options)
    size = frame_size(drive)
    names = [bundle.name for bundle in bundles] or options.attach
    taxonomies = [bundle.manifest.taxonomy for bundle in bundles] or [node_categories(node) for node in options.attach]
    scorings = _scorings(names, taxonomies, drive, truth_categories, grouping)
    truth = TruthByFrame(drive, drive.masks, scorings[0].truth)
    check_sizes(truth, size, truth_source)
    plan = QUICK if options.quick else Plan()
    given = {"repetitions": options.repetitions, "rates": options.rates and tuple(options.rates)}
    plan = dataclasses.replace(plan, **{name: value for name, value in given.items() if value})
    models = [_backbone(bundle) for bundle in bundles] or [Backbone(name) for name in options.attach]
    for model, taxonomy in zip(models, taxonomies, strict=True):
        model.labels = [] if taxonomy == EIGHT else taxonomy.labels()
    models = _told_apart(models)
    listened = {"first": [0], "all": list(range(len(models))), "none": []}[
        options.now or ("none" if options.attach else "first")
    ]
    if drive.rate <= 0:
        raise ComparisonError(f"{drive.path} was recorded at one instant; a comparison needs the times of its frames")
    forecast = min(1e3 / drive.rate, LONGEST_FORECAST_MS) if options.forecast is None else options.forecast
    most = max(options.until_decided or 0, plan.repetitions)
    # Those that may be added later are turned by themselves, so that each part favours no backbone.
    order = turns(len(models), plan.repetitions, _SEED) + turns(len(models), most - plan.repetitions, _SEED + 1)
    comparison = Comparison(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=setting() | {"busy_cores": busy_cores()},
        versions=versions(),
        configuration={
            "engine": options.engine,
            "threads": options.threads,
            "grouping": str(options.grouping) if options.grouping else None,
            "attached": options.attach,
            "quick": options.quick,
            "now": [models[model].name for model in listened],
            "forecast_ms": None if options.attach else round(forecast, 3),
            "looks": 1 + math.ceil((most - plan.repetitions) / _STEP),
            "plan": dataclasses.asdict(plan),
        },
        harness={},
        drive=_facts(drive, size, options, truth_source if truth else "", len(truth)),
        models=models,
        categories=[] if scorings[0].taxonomy.is_eight else scorings[0].taxonomy.labels(),
        rule=RULE,
    )

    exit_on_sigterm()
    steps = plan.seconds(drive)
    with PlanBar(plan.total(drive, len(models), len(listened)) + (0 if options.attach else steps["offline"])) as bar:

        def repeat(repetition: int) -> None:
            for model in order[repetition]:
                log = options.out / "logs" / f"{ascii_lowercase[model]}{repetition + 1}"
                if options.attach:
                    target = AttachedNode(options.attach[model])
                else:
                    target = node_process(
                        log / "node.log",
                        f"/compare_{os.getpid()}_{log.name}",
                        str(bundles[model].path.resolve()),
                        options.engine,
                        drive,
                        threads=options.threads,
                        autostart=True,
                        on_give_up="exit",
                        forecast_ms=forecast,
                    )
                now = model in listened and repetition < plan.now_repetitions
                ways = now, scorings[model]
                measure_process(comparison, plan, drive, truth, model, repetition, target, log, bar, *ways)

        with bar.step("self-test of the harness", steps["self-test"]):
            comparison.harness = self_test(size, _SELF_TEST_HZ[: 1 if options.quick else None])
        for repetition in range(plan.repetitions):
            repeat(repetition)
        if bundles:
            with bar.step("all backbones offline", steps["offline"]):
                found = segment_offline(bundles, drive, plan.offline_s, options.engine, options.threads)
                evaluate_offline(comparison, drive, truth, found, scorings, taxonomies)
        comparison.verdicts, comparison.decision = judge(comparison)
        while comparison.repetitions < most and undecided(comparison.verdicts):
            for repetition in range(comparison.repetitions, min(comparison.repetitions + _STEP, most)):
                repeat(repetition)
            comparison.verdicts, comparison.decision = judge(comparison)
    comparison.gains = gains(comparison)
    comparison.configuration["order"] = order[: comparison.repetitions]
    comparison.duration_s = round(time.monotonic() - started, 1)
    return comparison


def _bundles(options: argparse.Namespace) -> list[Bundle]:
    """The models that are compared."""
    if options.models and len(options.models) < 2:
        raise ComparisonError(f"--models names {options.models[0]} alone; name at least two, one twice to see chance")
    return [load_bundle(name) for name in options.models or _shipped()]


def _shipped() -> list[str]:
    """All shipped bundles, the incumbent first."""
    names = list(shipped_bundles())
    if len(names) < 2:
        raise BundleError(f"{len(names)} bundles are shipped ({', '.join(names)}); name two with --models")
    return sorted(names, key=lambda name: not name.startswith(DEFAULT_MODEL))


def _backbone(bundle: Bundle) -> Backbone:
    manifest = bundle.manifest
    return Backbone(
        name=bundle.name,
        backbone=manifest.backbone,
        sha256=hashlib.sha256(bundle.graph).hexdigest(),
        precision=f"{manifest.precision} weights",
        training=str(manifest.training.get("data", "")),
    )


def _told_apart(models: list[Backbone]) -> list[Backbone]:
    """With numbers where somebody compares a backbone with itself, to see how much is chance."""
    names = [model.name for model in models]
    return [
        dataclasses.replace(model, name=f"{model.name} ({names[: i + 1].count(model.name)})")
        if names.count(model.name) > 1
        else model
        for i, model in enumerate(models)
    ]


def _scorings(
    names: Sequence[str], taxonomies: Sequence[Taxonomy], drive: Drive, truth: Taxonomy, grouping: Grouping | None
) -> list[Scoring]:
    """How the masks of each model are scored and compared.

    Raises:
        ComparisonError: models, or models and ground truth, have different categories, and no grouping is given.
        UserError: the grouping lacks a category.
    """
    models, first = list(zip(names, taxonomies, strict=True)), taxonomies[0]
    if grouping is None and not all(taxonomy.same_categories(first) for taxonomy in taxonomies):
        found = ", ".join(f"{name} has {in_short(taxonomy.names)}" for name, taxonomy in models)
        raise ComparisonError(f"the models have different categories: {found}; give --grouping YAML")
    if grouping is None and not drive.masks:
        return [Scoring(taxonomy) for taxonomy in taxonomies]
    return [scoring_of(name, taxonomy, truth, grouping) for name, taxonomy in models]


def _load(options: argparse.Namespace) -> tuple[Drive, Taxonomy, str]:
    """The drive in memory with its ground truth, the categories of that, and where it came from."""
    from seg_node.bags.ground_truth import masks_from_folder

    drive = load_drive(options, options.topic, options.mask_topic, scratch=options.out)
    drive = dataclasses.replace(drive, frames=drive.frames[: options.frames])
    if len({frame.stamp for frame in drive.frames}) < len(drive.frames):
        raise BagError(f"{drive.path}: header stamps of {drive.topic} repeat, so ground truth cannot be told apart")
    source = drive.mask_topic or ""
    if options.masks:
        drive, source = dataclasses.replace(drive, masks=masks_from_folder(options.masks, drive)), str(options.masks)
    return *with_truth_categories(drive, options), source


def _facts(
    drive: Drive, size: tuple[int, int], options: argparse.Namespace, truth: str, truth_frames: int
) -> DriveFacts:
    first = drive.frames[0].log_time
    content = hashlib.sha256(options.video.read_bytes()).hexdigest() if options.video else bag_hash(drive.path)
    shipped = shared_path(SHIPPED_DRIVE)
    return DriveFacts(
        path=_shown(drive.path),
        topic=drive.topic,
        hash=content,
        width=size[1],
        height=size[0],
        rate_hz=round(drive.rate, 3),
        transport="raw" if drive.frames[0].kind == "image" else "compressed",
        truth=truth,
        truth_frames=truth_frames,
        times_s=[round((frame.log_time - first) / 1e9, 4) for frame in drive.frames],
        made_up=content == (shipped and bag_hash(shipped)),
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _hz(text: str) -> float:
    from seg_node.rig.schedule import Rate

    try:
        rate = Rate.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if rate.kind != "hz":
        raise argparse.ArgumentTypeError(f"{text!r} is no rate in frames per second; the recorded one is played anyway")
    return rate.value
