"""``python -m seg_training export``: make a bundle of a finished run, or another one of a bundle."""

import argparse
from pathlib import Path

from seg_node.core.errors import UserError
from seg_training.quality import MAX_LOSS


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
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
        "--int8",
        action="store_true",
        help="calibrate on the run's train sets and score on its val sets, for engines that compute in int8",
    )
    command.add_argument(
        "--data", metavar="ROOT", help="folder of the data: evaluate on the run's val sets and write the scores down"
    )
    command.add_argument(
        "--root", action="append", default=[], metavar="KIND=FOLDER", help="where a kind of the run's data lies now"
    )
    command.add_argument("--max-loss", type=float, default=MAX_LOSS, help="miou_7 points for int8 to cost; %(default)s")


def run(options: argparse.Namespace) -> int:
    """Export, and evaluate where that is asked for; returns the exit status."""
    if options.input_size and min(options.input_size) < 1:
        raise UserError(f"--input-size is {options.input_size}; both must be at least 1")
    from seg_node.core.bundle import load_bundle
    from seg_training.config import load_config
    from seg_training.datasets import has_root, open_dataset
    from seg_training.evaluate import score, scores_table
    from seg_training.export import export_again, export_run, record_metrics
    from seg_training.provenance import metrics_name, roots_of, val_sets_of, with_roots

    size = tuple(options.input_size or ()) or None
    source = Path(options.source)
    is_run = (source / "config.yaml").exists()
    old = None if is_run else load_bundle(options.source)
    val = load_config(source / "config.yaml").val if is_run else val_sets_of(old)
    roots = roots_of(val, options.data, options.root, needed=False)
    settings = (options.precision, options.int8, roots, options.max_loss, size)
    bundle = export_run(source, options.out, *settings) if is_run else export_again(old, options.out, *settings)
    on_disk = [spec for spec in val_sets_of(bundle) if has_root(spec["dataset"])]
    if options.data:
        for spec in with_roots(on_disk, roots):
            metrics = score(bundle, open_dataset(spec, taxonomy=bundle.manifest.taxonomy))
            bundle = record_metrics(bundle, metrics_name(spec), metrics)
            print(scores_table(bundle.name, metrics))
    print(f"exported: {bundle.path}")
    if not bundle.manifest.metrics:
        folder = next((spec["root"] for spec in val if spec.get("root")), "ROOT")
        advice = f": python -m seg_training evaluate {bundle.path} --data {folder}" if on_disk else ""
        print(f"its manifest has no scores, because it was not evaluated{advice}")
    return 0
