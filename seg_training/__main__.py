"""Command line of the training package: ``python -m seg_training COMMAND --help``."""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

BLOCK = 10
"""Images that an interval's bootstrap draws together: two thirds of a second of CamVid val."""


_MODULES = {
    "inspect": ("seg_training.inspect", "look at the data of a configuration: shares, samples, augmentation"),
    "reproduce": ("seg_training.reproduce", "train the recipe of a bundle again"),
    "study": ("seg_training.study", "train a grid of variants and seeds, and compare them"),
    "synthetic-bag": ("seg_training.synthetic_bag", "write a made-up drive with exact masks as a bag"),
}
"""Commands in modules of their own; each has ``add_arguments(parser)`` and ``run(options) -> int``."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for an error that the message explains, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m seg_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a network, or resume a run that was stopped")
    command.add_argument("config", type=Path, help="YAML file, see config/training/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override any value of the file")
    command.set_defaults(run=_train)

    command = commands.add_parser("export", help="make a bundle of a finished run, or another one of a bundle")
    command.add_argument("source", metavar="RUN|BUNDLE", help="folder that train wrote, or name or folder of a bundle")
    command.add_argument("out", type=Path, help="folder of the bundle")
    command.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="of the stored weights")
    command.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels of a frame in the network: fewer are faster and see less; default: that of the source",
    )
    command.add_argument(
        "--int8", action="store_true", help="calibrate on the run's val sets, for engines that compute in int8"
    )
    command.add_argument("--data", help="root folder of CamVid: evaluate on the run's val sets and write it down")
    command.add_argument(
        "--root", action="append", default=[], metavar="KIND=FOLDER", help="where a kind of the run's val data lies now"
    )
    command.add_argument("--max-loss", type=float, default=1.0, help="miou_7 points that int8 may cost; %(default)s")
    command.set_defaults(run=_export)

    command = commands.add_parser("evaluate", help="score a bundle: IoU, F1, borders, calibration, with intervals")
    command.add_argument("bundle", help="name of a shipped bundle, or a folder")
    command.add_argument("--data", required=True, metavar="ROOT", help="root folder of the data set")
    command.add_argument("--dataset", default="camvid", help="kind of data set, as in a configuration's val entries")
    part = command.add_mutually_exclusive_group()
    part.add_argument("--split", default="val", help="part of the data set")
    part.add_argument("--drives", nargs="+", metavar="DRIVE", help="these drives of train instead")
    command.add_argument("--engine", default="onnxruntime", help="auto, onnxruntime, openvino or torch")
    command.add_argument("--precision", default="fp32", help="auto, fp32 or int8; default: %(default)s")
    command.add_argument(
        "--block", type=int, default=BLOCK, help="images that the bootstrap draws together; 1 if they are independent"
    )
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="only every Nth image, for a quick look; default: %(default)s"
    )
    command.add_argument("--json", action="store_true", help="print nothing but JSON")
    command.add_argument("--plots", type=Path, metavar="DIR", help="write plots and the worst images there")
    command.set_defaults(run=_evaluate)

    chosen = (sys.argv[1:] if arguments is None else arguments)[:1]
    for name, (module, summary) in _MODULES.items():
        command = commands.add_parser(name, help=summary)
        if chosen == [name]:
            # Only the command that runs is imported: each takes seconds.
            found = importlib.import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)

    options, rest = parser.parse_known_args(arguments)
    if rest:
        # argparse leaves positional arguments behind options over: in `study loss --out there steps=10` the last one.
        if not hasattr(options, "overrides") or any(text.startswith("-") for text in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = [*options.overrides, *rest]
    try:
        return options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _train(options: argparse.Namespace) -> int:
    from seg_training.config import load_config
    from seg_training.train import train

    folder = train(load_config(options.config, options.overrides))
    # A launcher starts one process for each device, and numbers them so.
    if os.environ.get("RANK", "0") == "0":
        print(f"trained: {folder}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from seg_node.core.bundle import load_bundle
    from seg_training.export import export_again, export_run, metrics_name, record_metrics, val_sets_of
    from seg_training.provenance import parse_roots, with_roots

    if options.input_size and min(options.input_size) < 1:
        raise ValueError(f"--input-size is {options.input_size}; both must be at least 1")
    roots = ({"camvid": options.data} if options.data else {}) | parse_roots(options.root)
    settings = (options.precision, options.int8, roots, options.max_loss, tuple(options.input_size or ()) or None)
    if Path(options.source, "config.yaml").exists():
        bundle = export_run(Path(options.source), options.out, *settings)
    else:
        bundle = export_again(load_bundle(options.source), options.out, *settings)
    if options.data:
        val = [spec for spec in val_sets_of(bundle) if spec["dataset"] == "camvid"]
        for spec in with_roots(val, roots):
            metrics = _scores(str(options.out), spec)
            bundle = record_metrics(bundle, metrics_name(spec), metrics)
            print(_table(bundle.name, metrics))
    print(f"exported: {bundle.path}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    part = {"split": "train", "drives": options.drives} if options.drives else {"split": options.split}
    spec = {"dataset": options.dataset, "root": options.data, **part}
    figures = _scores(
        options.bundle, spec, options.engine, options.precision, options.block, options.every, options.plots
    )
    print(json.dumps(figures) if options.json else _table(options.bundle, figures))
    return 0


def _scores(
    bundle: str,
    spec: dict,
    engine: str = "onnxruntime",
    precision: str = "fp32",
    block: int = BLOCK,
    every: int = 1,
    plots: Path | None = None,
) -> dict:
    """What ``evaluate`` prints and a manifest keeps: the figures of ``quality.summarise``, on what, and with what.

    Args:
        bundle: name or folder.
        spec: of the data set, see ``datasets.open_dataset``.
        engine: see ``create_engine``.
        precision: see ``create_engine``.
        block: see ``quality.intervals``.
        every: of how many images one is evaluated.
        plots: folder to write plots into.
    """
    from torch.utils.data import Subset

    from seg_node.core.bundle import load_bundle
    from seg_node.core.engines import create_engine
    from seg_training.datasets import open_dataset
    from seg_training.evaluate import observe
    from seg_training.quality import summarise

    if block < 1:
        raise ValueError(f"--block is {block}; give a number of images, at least 1")
    if every < 1:
        raise ValueError(f"--every is {every}; give a number of images, at least 1")
    dataset = open_dataset(spec)
    samples = Subset(dataset, range(0, len(dataset), every))
    runner = create_engine(load_bundle(bundle), engine, precision=precision)
    observations = observe(runner, (samples[i] for i in range(len(samples))), len(samples))
    figures = {
        "data": dataset.description + (f", one in {every} of them" if every > 1 else ""),
        "engine": runner.name,
        "computed_in": runner.precision,
        **summarise(observations, block),
    }
    if plots:
        from seg_training.evaluation_plots import write_plots

        write_plots(plots, figures, observations, runner, samples)
    return figures


def _table(name: str, figures: dict) -> str:
    from seg_training.evaluate import table

    return table(f"{name} on {figures['data']}, {figures['engine']} {figures['computed_in']}", figures)


if __name__ == "__main__":
    sys.exit(main())
