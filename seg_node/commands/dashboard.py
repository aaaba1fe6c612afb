"""``python -m seg_node dashboard``: the dashboard."""

import argparse
import importlib.util
import os
import sys

from seg_node.core.bundle import load_bundle
from seg_node.core.errors import UserError
from seg_node.core.share import PACKAGE
from seg_node.web.dashboard.options import add_arguments

__all__ = ["add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Hand this process over to Streamlit; returns 2 for wrong input."""
    if not importlib.util.find_spec("streamlit"):
        raise UserError("streamlit is not installed; pip install 'seg_node[dashboard]'")
    if options.api and not options.api.startswith(("http://", "https://")):
        raise UserError(f"--api is {options.api!r}; expected an address like http://127.0.0.1:8000")
    if missing := [str(path) for path in [*options.results, *filter(None, [options.bag])] if not path.exists()]:
        raise UserError(f"{', '.join(missing)} does not exist; give an existing path")
    for bundle in options.model:
        load_bundle(bundle)
    flags = {
        "server.address": options.host,
        "server.port": options.port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": 16,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    page = PACKAGE / "web" / "dashboard" / "app.py"
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
