"""``make bench``: the segmentation node against the naive one, bare inference and what the machine can do.

    python benchmarks/bench.py [--quick] [--models BUNDLE ...] [--engine ENGINE] [--out FOLDER]

One run measures everything, in processes of their own, naive and ours in turn (A B A B), and writes ``bench.json``,
with every single latency, and ``bench.md``, the table that it prints. Bundles of one backbone are compared with one
naive node, which takes the weights of the first of them that is not int8. Nothing else should run on the machine.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import engines
import lines
import nodes
import roofline
import transport

from seg_node.commands.options import exit_on_sigterm
from seg_node.core.bundle import BundleError, load_bundle, shipped_bundles
from seg_node.core.engines import ENGINES, present_engines
from seg_node.core.machine import setting
from seg_node.rig.plan_bar import PlanBar
from seg_node.rig.scoring import versions, without_nan

SCHEMA = 1
PARTS = ("nodes", "transport", "engines")


@dataclass(frozen=True)
class Plan:
    """How much is measured. The full plan takes about thirty-six minutes for three bundles on two cores."""

    repetitions: int = 2
    load: nodes.Load = nodes.Load()
    transport_frames: int = 900
    reliable_frames: int = 90
    inferences: int = 30
    every: int = 5
    """Which images of CamVid val are scored."""


QUICK = Plan(
    repetitions=1,
    load=nodes.Load(
        frames=10,
        sustained=20,
        sustained_s=0.0,
        fixed_s=5.0,
        overloads=(1.0, 2.0, 3.0),
        overload_s=2.5,
        idle_s=2.0,
    ),
    transport_frames=90,
    reliable_frames=30,
    inferences=15,
    every=20,
)
"""Shows that everything works, in about eight minutes; too short for p99."""


def measure_nodes(
    models: list[str], engine: str, plan: Plan, bar: PlanBar, cache: str
) -> tuple[list[lines.Line], dict[str, Any]]:
    """Lines about the nodes, and everything they were made of.

    ``cache`` is a folder for compiled models, empty, so that the first start of each bundle compiles.
    """
    raw: dict[str, list[nodes.Measured]] = defaultdict(list)
    for repetition in range(plan.repetitions):
        overloads = plan.load.overloads if repetition == 0 else ()
        with bar.step(f"{repetition + 1}/{plan.repetitions}: transport floor", 35):
            raw["echo"].append(nodes.measure("echo", "", "", plan.load))
        for model in models:
            with bar.step(f"{repetition + 1}/{plan.repetitions}: naive {model}", 60 + 7 * len(overloads)):
                raw[f"naive {model}"].append(nodes.measure("naive", model, "", plan.load, overloads))
            rounds = 8 * nodes.ROUNDS * len(nodes.OVERLOADS) if overloads else 0
            with bar.step(f"{repetition + 1}/{plan.repetitions}: ours {model}", 80 + 8 * len(overloads) + rounds):
                raw[f"ours {model}"].append(nodes.measure("ours", model, engine, plan.load, overloads, cache))
    found = []
    for model in models:
        naive, ours = raw[f"naive {model}"], raw[f"ours {model}"]
        found += lines.cost(f"naive {model}", naive)
        found += lines.versus_naive(naive, ours)
        found += lines.overhead(ours, raw["echo"])
        found += lines.overload(naive[0], ours[0], raw["echo"])
        found += lines.cost(model, ours)
    plain = {name: [asdict(replace(one, masks={})) for one in measured] for name, measured in raw.items()}
    return found, plain


def measure_transport(plan: Plan, bar: PlanBar) -> tuple[list[lines.Line], list[dict[str, Any]]]:
    """Lines about the transport, and their rows."""
    rows = []
    for size, reliability, profile in transport.settings():
        frames = plan.transport_frames if reliability == "best_effort" else plan.reliable_frames
        with bar.step(f"transport {size[1]}x{size[0]} {reliability} {profile}", 8 + frames / 30):
            rows.append(transport.measure(size, reliability, profile, frames))
    return lines.transport(rows), rows


def measure_engines(
    models: list[str], present: list[str], plan: Plan, bar: PlanBar
) -> tuple[list[lines.Line], dict[str, Any]]:
    """Lines about bare inference, and their rows by kind."""
    with bar.step("engines", _engine_seconds(plan, models, present)):
        data: dict[str, Any] = {"rows": engines.table(models, present, plan.inferences, plan.every, progress=False)}
    found = lines.engines(data["rows"])
    fastest = "openvino" if "openvino" in present else present[0]
    with bar.step(f"threads of {fastest}", 12 * len(engines.THREADS)):
        settings = (models[0], fastest, "auto")
        data["threads"] = [engines.bare(*settings, threads, plan.inferences) for threads in engines.THREADS]
    what = f"{fastest} with {' / '.join(str(row['threads']) for row in data['threads'])} threads, p50"
    times = " / ".join(f"{row['p50_ms']:.1f}" for row in data["threads"])
    found.append(lines.Line(data["threads"][0]["model"], what, f"{times} ms"))
    with bar.step(f"start-up of {fastest}", 16 * len(models)):
        data["start_up"] = {model: engines.start_up(model, fastest) for model in models}
    for model, seconds in data["start_up"].items():
        value = f"{seconds['cold_s']:.1f} / {seconds['warm_s']:.1f} s"
        what = f"{fastest} from the bundle's files to the first mask, cache empty / full"
        found.append(lines.Line(load_bundle(model).name, what, value, "full < 3 s", seconds["warm_s"] < 3))
    return found, data


def measure_limits(
    rows: list[dict[str, Any]], models: list[str], present: list[str], bar: PlanBar
) -> tuple[list[lines.Line], dict[str, Any]]:
    """Lines about what limits inference, and what they were made of; ``rows`` are those of ``measure_engines``."""
    with bar.step("limits of the machine", 15):
        data: dict[str, Any] = {"peaks": roofline.peaks()}
    data["rows"] = [roofline.limits(row, row["bundle"], data["peaks"]) for row in rows]
    if "openvino" in present:
        with bar.step("profiles", 10 * len(models)):
            data["profiles"] = [roofline.profile(model) for model in models]
    return lines.roofline(data["rows"]) + lines.profiles(data.get("profiles", []), data["peaks"]), data


def run(options: argparse.Namespace) -> int:
    """Measure and report; returns the exit status."""
    plan = QUICK if options.quick else Plan()
    for model in options.models:
        load_bundle(model)
    # torch in fp32 is what the others are held against.
    present = present_engines() if options.engine == "auto" else list(dict.fromkeys([options.engine, "torch"]))
    sections: dict[str, list[lines.Line]] = {}
    data: dict[str, Any] = {}
    with PlanBar(_seconds(plan, options.models, present, options.parts)) as bar:
        if "nodes" in options.parts:
            with tempfile.TemporaryDirectory() as cache:
                found, data["nodes"] = measure_nodes(options.models, options.engine, plan, bar, cache)
            sections["Nodes, 1280x720 raw"] = found
        if "transport" in options.parts:
            sections["Transport, 30 Hz"], data["transport"] = measure_transport(plan, bar)
        if "engines" in options.parts:
            found, data["engines"] = measure_engines(options.models, present, plan, bar)
            sections["Bare inference, 1280x720"] = found
            limits, data["limits"] = measure_limits(data["engines"]["rows"], options.models, present, bar)
            sections["Limits"] = limits
    _write(options, sections, data)
    return 0


def _seconds(plan: Plan, models: list[str], present: list[str], parts: list[str]) -> float:
    """Expected seconds of all steps, for the progress bar."""
    bundles = len(models)
    of_overloads = 15 * len(plan.load.overloads) + 8 * nodes.ROUNDS * len(nodes.OVERLOADS)
    of_nodes = plan.repetitions * (35 + 140 * bundles) + of_overloads * bundles
    of_transport = len(transport.settings()) * (8 + (plan.transport_frames + plan.reliable_frames) / 60)
    seconds = {
        "nodes": of_nodes,
        "transport": of_transport,
        "engines": _engine_seconds(plan, models, present) + 24 + 16 * bundles + 15 + 10 * bundles,
    }
    return sum(seconds[part] for part in parts)


def _engine_seconds(plan: Plan, models: list[str], present: list[str]) -> float:
    rows = len(list(engines.settings(models, present)))
    # Calibration for int8 and the masks of torch take half a minute for each bundle.
    return 30 * len(models) + rows * (8 + 0.2 * (plan.inferences + 101 / plan.every))


def _write(options: argparse.Namespace, sections: dict[str, list[lines.Line]], data: dict[str, Any]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    text = lines.markdown(sections)
    if profiles := data.get("limits", {}).get("profiles"):
        peak = data["limits"]["peaks"]
        text += "\n".join(["", "```", *(roofline.profile_text(one, peak) for one in profiles), "```", ""])
    asked = sys.argv[1:]
    if "--out" in asked:
        # Where the results go is nobody else's business.
        at = asked.index("--out")
        del asked[at : at + 2]
    about = {
        "schema": SCHEMA,
        "command": " ".join(["python benchmarks/bench.py", *asked]),
        "machine": setting(),
        "versions": versions(),
        "lines": {title: [asdict(line) for line in found] for title, found in sections.items()},
        **data,
    }
    (options.out / "bench.json").write_text(json.dumps(without_nan(about), indent=1) + "\n")
    (options.out / "bench.md").write_text(text)
    print(text)
    print(f"all figures: {options.out / 'bench.json'}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: shipped"
    )
    parser.add_argument(
        "--engine", default="auto", choices=["auto", *ENGINES], help="of the node; default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="eight minutes that show that it works")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="default: all")
    parser.add_argument("--out", type=Path, default=Path("bench_output"), help="default: %(default)s")
    try:
        return run(parser.parse_args(arguments))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
