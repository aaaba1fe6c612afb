"""Slow clients beside a normal one: what they cost it.

``python benchmarks/serve_slow.py`` starts a server and lets one client ask for one mask after the other, in turn alone
and beside clients that send a byte of their body now and then. It prints p50 and p99 of the normal client's answers,
and the ratio of the two p99. ``--out`` writes the same as JSON. The exit status is 1 if any of its answers was wrong.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from serve_load import ENGINES, ROOT, Kind, post, server

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.machine import setting

_PAUSE_S = 0.2
"""Time between two bytes of a slow client."""


async def slow_client(url: str) -> None:
    """Send a byte now and then; come again whenever the server gives up."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /v1/segment HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\n"
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(head.encode())
                while not reader.at_eof():
                    writer.write(b"\xff")
                    await writer.drain()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(reader.read(65536), _PAUSE_S)
            finally:
                writer.close()
        await asyncio.sleep(_PAUSE_S)


async def normal_client(url: str, kind: Kind, count: int) -> tuple[list[float], int]:
    """Ask ``count`` times, one after the other; returns the milliseconds of each, and how many answers were right."""
    milliseconds, right = [], 0
    for _ in range(count):
        started = time.monotonic()
        answer = await post(url, kind)
        milliseconds.append(1000 * (time.monotonic() - started))
        right += answer.status_code == 200 and kind.right(answer)
    return milliseconds, right


async def phase(url: str, kind: Kind, count: int, slow_clients: int) -> tuple[list[float], int]:
    """A normal client beside slow ones."""
    slow = [asyncio.create_task(slow_client(url)) for _ in range(slow_clients)]
    # All of them have sent their headers.
    await asyncio.sleep(2 * _PAUSE_S if slow else 0)
    try:
        return await normal_client(url, kind, count)
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


def request(options: argparse.Namespace) -> Kind:
    """The normal client's request, and the mask that must come back."""
    frame = open_drive(ROOT / "rosbags" / "synthetic_drive", duration=5.0).frames[60].image
    bgr = cv2.resize(cv2.imdecode(frame.data, cv2.IMREAD_COLOR), (options.width, options.width * 9 // 16))
    jpeg = cv2.imencode(".jpg", bgr)[1]
    mask = create_engine(load_bundle(options.model), options.engine).infer(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[0]
    return Kind(
        jpeg.tobytes(), right=lambda a: np.array_equal(cv2.imdecode(np.frombuffer(a.content, np.uint8), -1), mask)
    )


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=150, help="of each phase (default: %(default)s)")
    parser.add_argument("--phases", type=int, default=3, help="alone and beside, each (default: %(default)s)")
    parser.add_argument("--slow-clients", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=320, help="of the image, 16:9, pixels (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="shipped one, or path of one (default: %(default)s)")
    parser.add_argument("--engine", default="openvino", choices=list(ENGINES), help="default: %(default)s")
    parser.add_argument("--queue", type=int, default=16, help="of the server (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there as JSON, too")
    options = parser.parse_args()
    kind = request(options)
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    right = dict.fromkeys(times, 0)
    with server(options) as (url, _):
        # An engine that compiles for each size has done so.
        asyncio.run(normal_client(url, kind, 5))
        for _ in range(options.phases):
            for name in times:
                slow_clients = options.slow_clients if name == "beside" else 0
                milliseconds, good = asyncio.run(phase(url, kind, options.requests, slow_clients))
                times[name] += milliseconds
                right[name] += good
    table = {}
    for name, milliseconds in times.items():
        p50, p99 = np.percentile(milliseconds, [50, 99])
        table[name] = {"right": right[name], "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
        print(f"{name:<8}{right[name]:6} of {len(milliseconds)} right, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    ratio = table["beside"]["p99_ms"] / table["alone"]["p99_ms"]
    print(f"p99 beside {options.slow_clients} slow clients: {ratio:.2f} times that without them")
    if options.out:
        settings = {name: getattr(options, name) for name in ("requests", "phases", "slow_clients", "width", "engine")}
        settings |= {"queue": options.queue, "model": load_bundle(options.model).name}
        document = {"machine": setting(), **settings}
        options.out.write_text(json.dumps(document | table | {"ratio_p99": round(ratio, 3)}, indent=1) + "\n")
    return int(sum(right.values()) != 2 * options.requests * options.phases)


if __name__ == "__main__":
    sys.exit(main())
