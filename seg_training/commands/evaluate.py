"""``python -m seg_training evaluate``: score a bundle on data sets."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_node.core.errors import UserError
from seg_training.quality import BLOCK

if TYPE_CHECKING:
    from seg_node.core.bundle import Bundle


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    command.add_argument("bundle", help="name of a shipped bundle, or a folder")
    command.add_argument("--data", metavar="ROOT", help="folder of the data set")
    command.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="KIND=FOLDER",
        help="folder of a kind, where there are several",
    )
    command.add_argument(
        "--dataset", metavar="KIND", help="camvid, cityscapes or folder (default: the bundle's val sets)"
    )
    part = command.add_mutually_exclusive_group()
    part.add_argument("--split", help="part of the data set (default: that of the bundle's val set)")
    part.add_argument("--drives", nargs="+", metavar="DRIVE", help="these drives of train instead")
    command.add_argument("--labels", metavar="YAML", help="label table of a folder (default: that of the bundle)")
    command.add_argument("--engine", default="onnxruntime", help="auto, onnxruntime, openvino or torch")
    command.add_argument("--precision", default="fp32", help="auto, fp32 or int8; default: %(default)s")
    command.add_argument(
        "--block", type=int, default=BLOCK, help="images that the bootstrap draws together; 1 if they are independent"
    )
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="only every Nth image, for a quick look; default: %(default)s"
    )
    command.add_argument("--json", action="store_true", help="print nothing but JSON, a line for each data set")
    command.add_argument("--plots", type=Path, metavar="DIR", help="write plots and the worst images there")


def run(options: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    for name in ("block", "every"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give a number of images, at least 1")
    from seg_node.core.bundle import load_bundle
    from seg_training.datasets import open_dataset, report
    from seg_training.evaluate import score, scores_table
    from seg_training.provenance import metrics_name

    bundle = load_bundle(options.bundle)
    specs = _data_sets(bundle, options)
    # All of them first: what is wrong with the last one is not to be said after minutes.
    datasets = [open_dataset(spec, taxonomy=bundle.manifest.taxonomy) for spec in specs]
    if not options.json and (text := report(datasets)):
        print(text, flush=True)
    for spec, dataset in zip(specs, datasets, strict=True):
        plots = options.plots and (options.plots if len(specs) == 1 else options.plots / metrics_name(spec))
        figures = score(bundle, dataset, options.engine, options.precision, options.block, options.every, plots)
        print(json.dumps(figures) if options.json else scores_table(bundle.name, figures))
    return 0


def _data_sets(bundle: "Bundle", options: argparse.Namespace) -> list[dict[str, Any]]:
    """Specifications of what the options ask for; what they leave open is that of the bundle's val sets."""
    from seg_training.datasets import has_root
    from seg_training.provenance import roots_of, val_sets_of, with_roots

    known = [spec for spec in val_sets_of(bundle) if has_root(spec["dataset"])]
    if options.dataset or options.split or options.drives or options.labels or not known:
        kind = options.dataset or (known[0]["dataset"] if known else "camvid")
        like = next((spec for spec in known if spec["dataset"] == kind), {"dataset": kind, "split": "val"})
        spec = {key: value for key, value in like.items() if key not in ("drives", "exclude")}
        if options.drives:
            spec |= {"split": "train", "drives": options.drives}
        elif options.split is not None:
            spec["split"] = options.split
        if options.labels:
            spec["labels"] = options.labels
        known = [spec]
    return with_roots(known, roots_of(known, options.data, options.root))
