"""``python -m seg_node replay``: play a recorded drive through the real node and report what came out."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.reader import bag_hash
from seg_node.commands import replay_cameras
from seg_node.commands.options import (
    add_drive,
    add_engine,
    add_grouping,
    add_model,
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
from seg_node.core.bundle import load_bundle
from seg_node.core.errors import UserError
from seg_node.core.grouping import IN_THE_EIGHT, Grouping, Scoring, load_grouping, scoring_of
from seg_node.core.machine import setting
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.rig.frames import FrameObservation
from seg_node.rig.monitor_process import Seen
from seg_node.rig.schedule import RECORDED, Rate, make_schedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    drive = parser.add_argument_group("what to play")
    add_drive(drive)
    drive.add_argument("--topic", help="image topic of the bag (default: the only one)")
    drive.add_argument(
        "--alongside", nargs="+", default=[], metavar="TOPIC", help="other cameras of the bag, played too, as load"
    )
    replay_cameras.add_arguments(drive)
    drive.add_argument("--mask-topic", help="ground truth topic of the bag (default: the only one named mask)")
    add_grouping(drive)
    drive.add_argument("--start", type=float, default=0.0, metavar="S", help="skip the bag's first S seconds")
    drive.add_argument("--duration", type=float, metavar="S", help="play S seconds of the bag (default: to its end)")
    drive.add_argument("--frames", type=int, metavar="N", help="play only so many frames")

    how = parser.add_argument_group("how to play it")
    how.add_argument(
        "--rate",
        type=_rate,
        default=RECORDED,
        metavar="R",
        help="'recorded'; frames per second such as 10; a factor of the recorded rate such as 1.5x; or 'max', back to"
        " back (default: recorded)",
    )
    how.add_argument("--loop", type=int, default=1, metavar="N", help="play it N times (default: 1)")
    how.add_argument(
        "--qos",
        default="recorded",
        choices=["recorded", "best_effort", "reliable"],
        help="reliability of the images; best effort where the bag does not say (default: recorded)",
    )
    how.add_argument("--clock", action="store_true", help="publish /clock; the node then runs on that time")
    how.add_argument(
        "--image-transport",
        default="auto",
        choices=["auto", "raw", "compressed"],
        help="auto plays what the bag holds, JPEG for a video, and with --attach what the node subscribes to; otherwise"
        " images are converted first",
    )

    node = parser.add_argument_group("the node")
    add_model(node)
    add_engine(node)
    add_threads(node)
    node.add_argument("--deadline-ms", type=float, default=0.0, help="count masks later than this as late (0: off)")
    node.add_argument(
        "--forecast",
        type=float,
        metavar="MS",
        help="listen to ~/mask_now, too, which holds for so many milliseconds ahead of each frame; 0 for its own time",
    )
    node.add_argument(
        "--attach",
        metavar="NODE",
        help="measure a node that runs already, such as /segmentation, on this machine or another, instead of starting"
        " one; the options above are then that node's own affair",
    )
    node.add_argument(
        "--topic-out", metavar="TOPIC", help="where to publish (default: the image topic to which the node subscribes)"
    )

    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--write-bag", type=Path, metavar="BAG", help="write the drive with masks, overlays and timing as a bag, too"
    )
    parser.add_argument("--no-video", action="store_true", help="do not write the two videos")
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="instead, measure how fast player and monitor are by themselves, and stop",
    )


def run(options: argparse.Namespace) -> int:
    """Replay; returns the exit status: 0, 1 if the node failed or frames are unaccounted for, 2 for wrong input."""
    _check(options)
    if options.self_test:
        return _self_test()
    if options.topics or options.cameras:
        return replay_cameras.run(options)
    own = None if options.attach else load_bundle(options.model).manifest.taxonomy
    grouping = load_grouping(options.grouping) if options.grouping else None
    make_folder(options.out)
    drive, truth_categories = with_truth_categories(_load(options), options)
    if own is not None:
        # Refused before anything is played.
        _scoring(options, drive, own, truth_categories, grouping)
    try:
        schedule = make_schedule(drive, options.rate, options.loop)
    except ValueError as error:
        raise UserError(str(error)) from error

    from seg_node.bags.images import frame_size, with_transport
    from seg_node.compare import as_used
    from seg_node.compare.report import to_text, write_report
    from seg_node.rig.annotated import write_annotated_bag
    from seg_node.rig.bench import AttachedNode, replay_once
    from seg_node.rig.now import score_streaming, summarise_now
    from seg_node.rig.scoring import score_masks, summarise
    from seg_node.rig.streaming import ages_at_use

    if options.image_transport != "auto":
        drive = with_transport(drive, options.image_transport)
    size = frame_size(drive)
    truth = next(iter(drive.masks.values()), None)
    if truth is not None and truth.shape != size:
        found = f"{truth.shape[1]}x{truth.shape[0]}"
        raise UserError(f"{drive.path}: {drive.mask_topic} is {found} but the images are {size[1]}x{size[0]}")

    if options.attach:
        target = AttachedNode(options.attach)
    else:
        target = node_process(
            options.out / "node.log",
            f"/replay_{os.getpid()}",
            options.model,
            options.engine,
            drive,
            threads=options.threads,
            deadline_ms=options.deadline_ms,
            use_sim_time=options.clock,
            autostart=True,
            on_give_up="exit",
            **({} if options.forecast is None else {"forecast_ms": options.forecast}),
        )
    alongside = [open_drive(drive.path, topic, None, options.start, options.duration) for topic in options.alongside]
    exit_on_sigterm()
    what = f"waiting for {options.attach}" if options.attach else f"starting the node with {options.model}: loading,"
    print(what + " compiling, warming up" * (not options.attach), flush=True)
    with _bar(len(schedule.frames)) as progress:
        run = replay_once(
            drive,
            target,
            schedule,
            options.out,
            progress=progress,
            topic=options.topic_out,
            qos=options.qos,
            clock=options.clock,
            alongside=alongside,
            now=options.forecast is not None,
            convert=bool(options.attach) and options.image_transport == "auto",
        )
    run.setup["bag_sha256"] = bag_hash(drive.path)

    own = own or node_categories(options.attach)
    scoring, not_scored = _scoring(options, drive, own, truth_categories, grouping)

    def truth_of(frame: FrameObservation) -> np.ndarray | None:
        return scoring.of_truth(drive.masks.get(frame.stamp)) if scoring else None

    scored = [frame for frame in run.frames if scoring and frame.mask and frame.stamp in drive.masks]
    pairs = ((truth_of(frame), scoring.of_mask(frame.mask.decode())) for frame in scored)
    result = summarise(run, score_masks(pairs, scoring.taxonomy if scoring else EIGHT))
    result.machine = setting()
    result.streaming = score_streaming(run, truth_of, scoring or IN_THE_EIGHT)
    result.ages_at_use = ages_at_use(run)
    if now := summarise_now(run):
        result.now = dataclasses.asdict(now)
        result.faults += now.faults
    # The pictures show each recorded frame once: as it went when it was first played, and told apart by its stamp.
    first = {frame.stamp: frame for frame in reversed(run.frames)}
    shown = dataclasses.replace(drive, frames=[drive.frames[f.frame] for f in reversed(first.values())])
    video = options.out / as_used.NAME
    # That of an earlier replay would be taken for this one's.
    video.unlink(missing_ok=True)
    moving = not options.no_video and as_used.write_as_used(video, drive, run, own, truth_categories)
    files = write_report(
        options.out,
        result,
        shown,
        {stamp: frame.sent for stamp, frame in first.items()},
        {stamp: frame.mask for stamp, frame in first.items() if frame.mask},
        video=not options.no_video,
        categories=own,
        truth_categories=truth_categories,
        beside=[video] if moving else [],
    )
    if options.write_bag:
        write_annotated_bag(options.write_bag, drive, run, own)
        files.append(options.write_bag)
    logs = [options.out / name for name in ("node.log", "monitor.log") if (options.out / name).is_file()]
    print(f"\n{to_text(result)}\n")
    if not_scored:
        print(f"not scored: {not_scored}\n")
    print("written:")
    for file in [*files, *logs]:
        print(f"  {file}")
    return 1 if result.faults else 0


def _scoring(
    options: argparse.Namespace, drive: Drive, own: Taxonomy, truth: Taxonomy, grouping: Grouping | None
) -> tuple[Scoring | None, str]:
    """How masks are scored; or None, and why they are not."""
    try:
        return scoring_of(options.attach or options.model, own, truth, grouping), ""
    except UserError as error:
        if grouping is not None:
            raise
        # The masks can be looked at all the same.
        return None, str(error) if drive.masks else ""


def _self_test() -> int:
    from seg_node.rig.loopback import SIZES, self_test

    print("raw bgr8 images to a node that only answers them, and its masks back:")
    for height, width in SIZES:
        found = self_test((height, width))
        best = found["probes"][-1 if found["probes"][-1]["rate"] == found["sustained_hz"] else -2]
        print(
            f"{width}x{height}: every frame accounted for up to {found['sustained_hz']:g} Hz,"
            f" camera to mask {best['p50_ms']:.1f} ms (p50), {best['p99_ms']:.1f} ms (p99)"
        )
    return 0


def _check(options: argparse.Namespace) -> None:
    require_ros("a replay")
    if not options.attach:
        require_engine(options.engine)
    if options.write_bag and options.write_bag.exists():
        raise UserError(f"--write-bag: {options.write_bag} exists already; remove it or choose another name")
    for name in ("frames", "loop"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    check_forecast(options.forecast)
    if options.attach and not options.attach.startswith("/"):
        raise UserError(f"--attach needs the node's full name, such as /segmentation, not {options.attach!r}")
    if options.video and (options.start or options.duration or options.alongside):
        raise UserError("--start, --duration and --alongside are for bags; make one with `python -m seg_node bag`")


def _rate(text: str) -> Rate:
    try:
        return Rate.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _load(options: argparse.Namespace) -> Drive:
    """The drive to play, in memory, cut as asked for."""
    drive = load_drive(
        options,
        options.topic,
        options.mask_topic,
        options.start,
        options.duration,
        raw=options.image_transport == "raw",
        scratch=options.out,
    )
    return dataclasses.replace(drive, frames=drive.frames[: options.frames])


@contextmanager
def _bar(frames: int) -> Iterator[Callable[[int, Seen], None]]:
    """A progress bar that appears with the first frame."""
    bar: tqdm | None = None

    def show(sent: int, seen: Seen) -> None:
        nonlocal bar
        bar = bar or tqdm(total=frames, desc="playing", unit="frame")
        bar.set_postfix(masked=seen.masks, dropped=max(seen.records - seen.masks, 0), refresh=False)
        bar.update(sent - bar.n)

    try:
        yield show
    finally:
        if bar:
            bar.close()
