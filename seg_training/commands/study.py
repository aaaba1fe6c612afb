"""``python -m seg_training study``: train a grid of variants and seeds, and compare them."""

import argparse
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "config" / "studies"
"""Folder of the studies that a name alone stands for."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    command.add_argument("study", help=f"{names}, or a YAML file like those of config/studies")
    command.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="KIND=FOLDER",
        help="where a kind of data lies: camvid=/data/camvid",
    )
    command.add_argument("--out", type=Path, help="folder of the results; default: studies/NAME")
    command.add_argument("--variants", nargs="+", metavar="VARIANT", help="these only")
    command.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the file's")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override a value of the base configuration")


def run(options: argparse.Namespace) -> int:
    """Run a study; returns the exit status."""
    from seg_training.provenance import parse_roots
    from seg_training.study import load_study, run_study
    from seg_training.study_report import console_table

    path = SHIPPED / f"{options.study}.yaml"
    path = path if path.exists() else Path(options.study)
    study = load_study(path, parse_roots(options.root), options.variants, options.seeds)
    out = options.out or Path("studies", path.stem)
    results = run_study(study, out, options.overrides)
    print(console_table(results))
    print(f"written: {out}")
    return 0
