"""``python -m seg_node serve``: the HTTP API."""

import argparse
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable

from seg_node.commands.options import require_engine
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.engines import ENGINES, PRECISIONS, create_engine
from seg_node.core.errors import UserError
from seg_node.web.api.limits import Limits

_BACKLOG = 2048
_GRACE_SECONDS = 30

_KEEP_ALIVE_SECONDS = 75
"""Seconds for which an idle connection stays open: longer than clients and load balancers keep theirs. Otherwise one of
them would send a request into a connection that is just being closed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    limits = Limits()
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_number(0, 65535), default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="BUNDLE",
        help=f"path of a bundle to serve beside the shipped ones; may be repeated, the first is the default model"
        f" (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=["auto", *ENGINES],
        help="openvino compiles for each new image size, onnxruntime does not (default: %(default)s)",
    )
    parser.add_argument("--threads", type=_number(0, 1024), default=0, help="for one inference (0: engine's choice)")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="default: %(default)s")
    parser.add_argument(
        "--max-pixels", type=_number(1), default=limits.max_pixels, help="of one image (default: %(default)s)"
    )
    parser.add_argument(
        "--max-bytes", type=_number(1), default=limits.max_bytes, help="of one image's file (default: %(default)s)"
    )
    parser.add_argument(
        "--queue",
        type=_number(1, 10000),
        default=limits.queue,
        help="requests that may wait or be worked on; further ones get 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which browsers may reach this server, besides localhost, this machine's and addresses; may be"
        " repeated, * allows all (behind a proxy that checks)",
    )
    parser.add_argument(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="site whose pages may use the API, as https://name (CORS); may be repeated (default: none)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status: 0, or 2 for wrong input."""
    missing = [name for name in ("fastapi", "fastapi_offline", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed; pip install 'seg_node[serving]'")
    # A second guard against images that are larger than they say; OpenCV reads it when it is loaded.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(options.max_pixels))
    import uvicorn

    from seg_node.web.api.app import make_app
    from seg_node.web.api.models import Models, served_bundles

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    limits = Limits(
        max_bytes=options.max_bytes,
        max_pixels=options.max_pixels,
        queue=options.queue,
        # A full queue of the largest images must fit.
        held_bytes=max(Limits.held_bytes, options.queue * options.max_bytes),
    )
    settings = (options.engine, options.threads, options.precision)
    require_engine(options.engine)
    models = Models(served_bundles(options.model, DEFAULT_MODEL), lambda bundle: create_engine(bundle, *settings))
    listener = _listen(options.host, options.port)
    config = uvicorn.Config(
        make_app(models, limits, [options.host, *options.allowed_host], options.allowed_origin),
        log_config=None,
        # The log of ours has ids, and no queries.
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn raises the signal that ended it once more, when everything is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    host, port = listener.getsockname()[:2]
    print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}, try /docs", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the address cannot be had; the message says which and what to do.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Python adds what it attempted, which is said here already.
        reason = error.strerror.partition(" (")[0]
        raise UserError(f"cannot listen on {host}, port {port}: {reason}; choose with --host, --port") from error
    # Connections inherit it. Without it the body of an answer waits until the client has acknowledged the head, which
    # takes 40 ms on a connection that is kept; asyncio sets it only for sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Parser of whole numbers in a range."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not in {low}..{'' if high is None else high}")
        return value

    parse.__name__ = "number"
    return parse
