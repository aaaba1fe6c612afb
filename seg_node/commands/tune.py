"""``seg_node tune``: the best that this machine can do with a drive, as a profile that the node takes."""

import argparse
import datetime
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_node.bags.drive import Drive
from seg_node.bags.reader import BagError, bag_hash
from seg_node.commands.options import (
    LONGEST_FORECAST_MS,
    add_drive,
    check_forecast,
    interrupt_on_signals,
    load_drive,
    make_folder,
    node_process,
    require_ros,
)
from seg_node.core.bundle import Bundle, categories_of, load_bundle, shipped_bundles
from seg_node.core.engines import ENGINES, preferred_engine, present_engines
from seg_node.core.errors import UserError, until_interrupted
from seg_node.core.machine import busy_cores, machine, setting
from seg_node.core.profile.file import write_profile
from seg_node.core.profile.fit import fingerprint

if TYPE_CHECKING:
    from seg_node.rig.node_process import NodeProcess
    from seg_node.tune.candidates import Setting
    from seg_node.tune.tuning import Tuning

INTERRUPTED = "interrupted: nothing was measured yet"
_BAGS = (".mcap", ".db3", ".bag")
_REFERENCE = 0.1
"""Share of the time for masks that stand in for ground truth."""
_BUSY = 0.3
"""Share of the cores that others use at which figures are not to be trusted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "drive",
        type=Path,
        nargs="?",
        metavar="DRIVE",
        help="bag or video, told apart by its name (default: the shipped drive)",
    )
    add_drive(parser)
    parser.add_argument("--topic", help="image topic of the bag (default: the only one)")
    parser.add_argument("--mask-topic", help="ground truth topic of the bag (default: the only one named mask)")
    parser.add_argument("--masks", type=Path, help="folder of ground truth PNGs named by frame index or header stamp")
    parser.add_argument(
        "--deadline", type=_positive, metavar="MS", help="95 %% of the inferred masks have to arrive within so much"
    )
    parser.add_argument(
        "--minimum-miou",
        type=_positive,
        metavar="P",
        help="least streaming miou_7 in percent; without --deadline the candidate with the youngest masks wins then",
    )
    parser.add_argument(
        "--models", nargs="+", metavar="BUNDLE", help="shipped bundles, or paths of some (default: all shipped)"
    )
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), help="engines to try (default: all installed)")
    parser.add_argument(
        "--against", metavar="BUNDLE", help="measure this bundle with the node's defaults and ~/mask in the finals, too"
    )
    parser.add_argument(
        "--forecast",
        type=float,
        metavar="MS",
        help="milliseconds ahead of its frame for which ~/mask_now holds (default: one frame of the drive)",
    )
    parser.add_argument(
        "--minutes", type=_positive, default=5.5, metavar="N", help="time for everything (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("tune_output"), help="folder to write, and to go on in (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Tune; returns the exit status: 0, 1 if no model runs, 2 for wrong input, 3 if nothing meets what is asked."""
    began = time.monotonic()
    tuning, facts = prepare(options)
    interrupted = True
    with until_interrupted():
        tuning.run()
        interrupted = False
    facts |= {"machine": setting(), "duration_s": round(time.monotonic() - began, 1)}
    return _report(options.out, tuning, facts, interrupted)


def prepare(options: argparse.Namespace) -> tuple["Tuning", dict[str, Any]]:
    """Load everything that a tuning needs.

    Args:
        options: of ``add_arguments``.

    Returns:
        The tuning, which has measured nothing; and what its result says of it.

    Raises:
        UserError: something that was given cannot be used.
    """
    require_ros("tuning")
    if options.drive:
        _place_drive(options)
    check_forecast(options.forecast)
    make_folder(options.out)
    bundles = {_model_name(name): load_bundle(name) for name in options.models or shipped_bundles()}
    if not bundles:
        raise UserError("no bundle is shipped; name some with --models")
    if others := [bundle for bundle in bundles.values() if not bundle.manifest.taxonomy.is_eight]:
        raise UserError(f"a tuning scores the eight categories, but {categories_of(others)}; leave it out of --models")
    engines = options.engines or sorted(present_engines(), key=lambda name: name != preferred_engine())
    if missing := [name for name in engines if name not in present_engines()]:
        raise UserError(f"engine {missing[0]} is not installed; installed: {', '.join(present_engines()) or 'none'}")
    against = _default_setting(options.against) if options.against else None
    drive = load_drive(options, options.topic, options.mask_topic, scratch=options.out)
    if drive.rate <= 0:
        raise BagError(f"{drive.path} was recorded at one instant; a tuning needs the times of its frames")
    if len({frame.stamp for frame in drive.frames}) < len(drive.frames):
        raise BagError(f"{drive.path}: header stamps of {drive.topic} repeat, so ground truth cannot be told apart")
    interrupt_on_signals()
    return _prepared(options, drive, bundles, engines, against)


def _prepared(
    options: argparse.Namespace,
    drive: Drive,
    bundles: Mapping[str, Bundle],
    engines: list[str],
    against: "Setting | None",
) -> tuple["Tuning", dict[str, Any]]:
    from seg_node.rig.scoring import versions
    from seg_node.tune.candidates import thread_counts
    from seg_node.tune.choice import Asked
    from seg_node.tune.plan import make_plan
    from seg_node.tune.state import State
    from seg_node.tune.tuning import Tuning

    forecast = min(1e3 / drive.rate, LONGEST_FORECAST_MS) if options.forecast is None else options.forecast
    truth, source = _truth(options, drive, bundles)
    content = hashlib.sha256(options.video.read_bytes()).hexdigest() if options.video else bag_hash(drive.path)
    cores = machine()["cores"]
    about = {
        "drive": content,
        "topic": drive.topic,
        "truth": source,
        "bundles": {model: bundle.manifest.files for model, bundle in bundles.items()},
        "machine": fingerprint(),
        "forecast_ms": forecast,
    }
    tuning = Tuning(
        drive=drive,
        truth=truth,
        bundles=bundles,
        engines=engines,
        cores=cores,
        asked=Asked(options.deadline, options.minimum_miou),
        plan=make_plan(options.minutes, drive.duration, len(thread_counts(cores)), int(against is not None)),
        state=State(options.out / "state.json", about),
        make_node=lambda setting, piece, log, listen: _node(setting, piece, log, listen, forecast),
        folder=options.out / "logs",
        against=against,
    )
    if tuning.state.resumed:
        print(f"going on with {tuning.state.resumed} measurements of {options.out / 'state.json'}", flush=True)
    busy = busy_cores()
    if busy is not None and busy > _BUSY * cores:
        tuning.found.notes.append(f"other programs used {busy:.1f} of {cores} cores when this began")
    return tuning, {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "forecast_ms": round(forecast, 3),
        "drive": _facts(drive, content, source),
        "asked": {
            "deadline_ms": options.deadline,
            "minimum_miou": options.minimum_miou,
            "minutes": options.minutes,
            "against": options.against,
        },
    }


def _report(out: Path, tuning: "Tuning", facts: Mapping[str, Any], interrupted: bool) -> int:
    """Write and print what is known; returns the exit status."""
    from seg_node.rig.scoring import without_nan
    from seg_node.tune.report import to_html, to_text
    from seg_node.tune.result import make_result, profile_values

    result = without_nan(make_result(tuning.found, tuning.asked, facts))
    files = [out / "tune.json", out / "tune.html"]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    files[1].write_text(to_html(result))
    profile = out / "profile.yaml"
    if result["meets"] and not interrupted:
        winner = tuning.found.candidates[result["winner"]]
        write_profile(profile, profile_values(result, winner, tuning.bundles))
        files.append(profile)
    print(f"\n{to_text(result)}\n\nwritten:")
    for file in files:
        print(f"  {file}")
    if interrupted:
        print(
            f"interrupted: no profile is written; the same command goes on from {out / 'state.json'}", file=sys.stderr
        )
        return 130
    if not result["meets"]:
        print("no profile is written: nothing meets what is asked", file=sys.stderr)
        return 3
    print(f"\nseg_node node --profile {profile}")
    return 0


def _place_drive(options: argparse.Namespace) -> None:
    if options.bag or options.video:
        raise UserError(f"name one drive: {options.drive}, or that of --bag or --video")
    is_bag = options.drive.is_dir() or options.drive.suffix in _BAGS
    setattr(options, "bag" if is_bag else "video", options.drive)


def _truth(options: argparse.Namespace, drive: Drive, bundles: Mapping[str, Bundle]) -> tuple[Mapping, str]:
    """Ground truth by header stamp, or what stands in for it; and what it is, in words."""
    from seg_node.bags.ground_truth import TruthByFrame, check_sizes, masks_from_folder
    from seg_node.bags.images import frame_size
    from seg_node.tune.reference import best_offline, reference_masks

    truth = masks_from_folder(options.masks, drive) if options.masks else drive.masks
    source = f"ground truth of {options.masks or drive.mask_topic}"
    by_frame = TruthByFrame(drive, truth)
    if by_frame:
        check_sizes(by_frame, frame_size(drive), str(options.masks or drive.mask_topic))
        return truth, source
    best = best_offline(bundles)
    print(f"{drive.path} has no ground truth; the masks of {best}, computed without any hurry, stand in", flush=True)
    found = reference_masks(drive, bundles[best], _REFERENCE * 60 * options.minutes)
    return found, f"the masks of {bundles[best].name} offline, for the drive has no ground truth"


def _node(setting: "Setting", drive: Drive, log: Path, listen: bool, forecast: float) -> "NodeProcess":
    return node_process(
        log,
        f"/tune_{os.getpid()}_{hashlib.sha256(str(log).encode()).hexdigest()[:8]}",
        setting.model,
        setting.engine,
        drive,
        **setting.parameters(),
        propagate=listen,
        forecast_ms=float(forecast),
        autostart=True,
        on_give_up="exit",
    )


def _default_setting(model: str) -> "Setting":
    """What a node has that is told nothing but its model."""
    from seg_node.tune.candidates import Setting

    load_bundle(model)
    return Setting(_model_name(model), "auto", "auto", (0, 0))


def _model_name(name: str) -> str:
    """As a node takes it wherever it is started."""
    return name if name in shipped_bundles() else str(Path(name).resolve())


def _facts(drive: Drive, content: str, source: str) -> dict[str, Any]:
    from seg_node.bags.images import frame_size

    height, width = frame_size(drive)
    path = Path(drive.path).resolve()
    return {
        "path": str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name,
        "sha256": content,
        "topic": drive.topic,
        "frames": len(drive.frames),
        "duration_s": round(drive.duration, 2),
        "rate_hz": round(drive.rate, 3),
        "width": width,
        "height": height,
        "truth": source,
    }


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value
