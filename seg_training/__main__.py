"""Command line of the training package: ``python -m seg_training COMMAND --help``."""

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for an error that the message explains, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m seg_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a network, or resume a run that was stopped")
    command.add_argument("config", type=Path, help="YAML file, see config/training/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override any value of the file")
    command.set_defaults(run=_train)

    command = commands.add_parser("export", help="make a bundle of a finished run")
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder that train wrote")
    command.add_argument("out", type=Path, help="folder of the bundle")
    command.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="of the stored weights")
    command.add_argument("--data", help="root folder of CamVid: evaluate on val and write the metrics down")
    command.set_defaults(run=_export)

    command = commands.add_parser("evaluate", help="score a bundle on CamVid val")
    command.add_argument("bundle", help="name of a shipped bundle, or a folder")
    command.add_argument("--data", required=True, help="root folder of CamVid")
    command.add_argument("--engine", default="onnxruntime", help="auto, onnxruntime, openvino or torch")
    command.add_argument("--json", action="store_true", help="print nothing but JSON")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("synthetic-bag", help="write a made-up drive with exact masks as a bag")
    chosen = (sys.argv[1:] if arguments is None else arguments)[:1]
    if chosen == ["synthetic-bag"]:
        from seg_training import synthetic_bag

        synthetic_bag.add_arguments(command)
        command.set_defaults(run=synthetic_bag.run)

    options = parser.parse_args(arguments)
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

    print(f"trained: {train(load_config(options.config, options.overrides))}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from seg_training.export import export_run, record_metrics

    bundle = export_run(options.run_folder, options.out, options.precision)
    if options.data:
        metrics = _scores(str(options.out), options.data, "onnxruntime")
        bundle = record_metrics(bundle, "camvid_val", metrics)
        _print_scores(bundle.name, metrics)
    print(f"exported: {bundle.path}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    metrics = _scores(options.bundle, options.data, options.engine)
    if options.json:
        print(json.dumps(metrics))
    else:
        _print_scores(options.bundle, metrics)
    return 0


def _scores(bundle: str, data: str, engine: str) -> dict:
    """Scores on CamVid val in percent with the two decimals that a manifest keeps."""
    from seg_node.core.bundle import load_bundle
    from seg_node.core.engines import create_engine
    from seg_node.core.metrics import scores
    from seg_training.datasets.camvid import CamVid
    from seg_training.evaluate import evaluate

    runner = create_engine(load_bundle(bundle), engine)
    samples = CamVid(data, "val")
    result = scores(evaluate(lambda image: runner.infer(image)[0], (samples[i] for i in range(len(samples)))))
    iou = {name: value if value is None else round(value, 2) for name, value in result["iou"].items()}
    figures = {name: round(result[name], 2) for name in ("miou_7", "miou_8", "pixel_accuracy")}
    return {"images": len(samples), "engine": engine, **figures, "iou": iou}


def _print_scores(name: str, metrics: dict) -> None:
    print(f"{name} on CamVid val, {metrics['images']} images, {metrics['engine']}, percent")
    for key in ("miou_7", "miou_8", "pixel_accuracy"):
        print(f"  {key:<16}{metrics[key]:6.2f}")
    for category, value in metrics["iou"].items():
        print(f"  IoU {category:<12}" + ("     -" if value is None else f"{value:6.2f}"))


if __name__ == "__main__":
    sys.exit(main())
