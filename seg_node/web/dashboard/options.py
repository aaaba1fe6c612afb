"""Options of the dashboard, which the command checks and the page that Streamlit runs reads again."""

import argparse
from pathlib import Path

from seg_node.core.engines import ENGINES

RESULTS = ("demo_output", "compare_output", "tune_output", "runs", "studies", "docs/results")
"""Where the tools leave their results; those that exist are shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--api", metavar="URL", help="HTTP API that makes the masks (default: in this process)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="BUNDLE", help="path of a bundle beside the shipped ones"
    )
    parser.add_argument("--engine", default="auto", choices=["auto", *ENGINES], help="default: %(default)s")
    parser.add_argument("--bag", type=Path, help="drive whose frames are shown (default: the shipped one)")
    parser.add_argument(
        "--results",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="folder with replays, comparisons, tunings, training runs or studies; may be repeated (default:"
        f" {', '.join(RESULTS)})",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="default: %(default)s")
