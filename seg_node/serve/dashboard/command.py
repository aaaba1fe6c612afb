"""``python -m seg_node dashboard``: the dashboard."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from seg_node.core.bundle import BundleError, load_bundle
from seg_node.core.engines import ENGINES

RESULTS = ("compare_output", "runs", "studies", "docs/results")
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
        help=f"folder with training runs, studies or comparisons; may be repeated (default: {', '.join(RESULTS)})",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Hand this process over to Streamlit; returns 2 for wrong input."""
    if not importlib.util.find_spec("streamlit"):
        print("error: streamlit is not installed; pip install 'seg_node[dashboard]'", file=sys.stderr)
        return 2
    if options.api and not options.api.startswith(("http://", "https://")):
        print(f"error: --api is {options.api!r}; expected an address like http://127.0.0.1:8000", file=sys.stderr)
        return 2
    if missing := [str(path) for path in [*options.results, *filter(None, [options.bag])] if not path.exists()]:
        print(f"error: {', '.join(missing)} does not exist; give an existing path", file=sys.stderr)
        return 2
    try:
        for bundle in options.model:
            load_bundle(bundle)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    flags = {
        "server.address": options.host,
        "server.port": options.port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": 16,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "theme.base": "light",
    }
    page = Path(__file__).with_name("app.py")
    streamlit = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(page),
        *(f"--{key}={value}" for key, value in flags.items()),
    ]
    sys.stdout.flush()
    os.execv(sys.executable, [*streamlit, "--", *_as_arguments(options)])


def _as_arguments(options: argparse.Namespace) -> list[str]:
    """The options of the page itself, as ``add_arguments`` declares them."""
    given = [("--api", options.api), ("--engine", options.engine), ("--bag", options.bag)]
    given += [("--model", model) for model in options.model] + [("--results", folder) for folder in options.results]
    return [text for name, value in given if value is not None for text in (name, str(value))]
