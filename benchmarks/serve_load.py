"""Load of the HTTP API: many requests at once, good and bad, every answer checked.

``python benchmarks/serve_load.py`` starts a server, lets all clients knock at the same time, and prints for each
kind of request how many were answered right, how often the full queue asked to come again, and p50 and p99 of the
answers; then the server's memory at first and after each tenth of the answers. ``--out`` writes the same as JSON, for
``docs/make_note.py --take``. The exit status is 1 if any answer was wrong.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import ENGINES, create_engine
from seg_node.core.images import EncodedPixels, to_bgr
from seg_node.core.machine import setting

ROOT = Path(__file__).parents[1]
MEMORY_SAMPLES = 10


@dataclass
class Kind:
    """A kind of request, and what must come back."""

    data: bytes
    status: int = 200
    query: str = ""
    media_type: str = "image/jpeg"
    right: Callable[[httpx.Response], bool] = lambda answer: True
    share: int = 1
    """Of all requests, in relation to the other kinds."""


@dataclass
class Tally:
    """What became of the requests of a kind."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    """Times that the queue was full."""
    milliseconds: list[float] = field(default_factory=list)
    """Of the answers other than those."""
    served: list[float] = field(default_factory=list)
    """Of them, in the server: decode, inference and encode."""


def kinds(options: argparse.Namespace) -> dict[str, Kind]:
    """The mix: two good requests to one bad."""
    frame = open_drive(ROOT / "rosbags" / "synthetic_drive").frames[60].image
    bgr = cv2.resize(cv2.imdecode(frame.data, cv2.IMREAD_COLOR), (options.width, options.width * 9 // 16))
    jpeg, png = (cv2.imencode(form, bgr)[1].tobytes() for form in (".jpg", ".png"))
    engine = create_engine(load_bundle(options.model), options.engine)
    masks = {data: engine.infer(to_bgr(EncodedPixels("", data)))[0] for data in (jpeg, png)}

    def mask_is_right(data: bytes) -> Callable[[httpx.Response], bool]:
        return lambda a: np.array_equal(cv2.imdecode(np.frombuffer(a.content, np.uint8), -1), masks[data])

    def shares_are_right(answer: httpx.Response) -> bool:
        expected = np.bincount(masks[jpeg].ravel(), minlength=8)
        return all(c["pixels"] == expected[c["id"]] for c in answer.json()["categories"])

    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (60000).to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return {
        "JPEG -> mask": Kind(jpeg, right=mask_is_right(jpeg), share=5),
        "PNG -> mask": Kind(png, media_type="image/png", right=mask_is_right(png), share=2),
        "JPEG -> RLE": Kind(jpeg, query="format=json&encoding=rle", right=shares_are_right, share=2),
        "JPEG -> polygons": Kind(jpeg, query="format=json&encoding=polygons", right=shares_are_right),
        "noise": Kind(random.randbytes(len(jpeg)), 415),
        "broken JPEG": Kind(jpeg[:2] + jpeg[-200:], 422),
        "pixel bomb": Kind(bomb, 413, media_type="image/png"),
        "unknown model": Kind(jpeg, 404, "model=none"),
        "wrong type": Kind(b"Dear reader, this is text.", 415),
    }


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Address and process id of a server of its own."""
    command = [sys.executable, "-m", "seg_node", "serve", "--port", "0", "--engine", options.engine]
    command += ["--queue", str(options.queue), "--model", options.model]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = process.stdout.readline().split()[2].rstrip(",")
        while httpx.get(f"{url}/readyz").status_code != 200:
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def post(url: str, kind: Kind) -> httpx.Response:
    """One request over a connection of its own, as curl makes it.

    httpx itself looks at all its connections whenever one of them changes: with 1,000 it would measure itself.
    """
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/segment?{kind.query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: {kind.media_type}\r\nContent-Length: {len(kind.data)}\r\n\r\n".encode())
    writer.write(kind.data)
    try:
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not head:
        raise ConnectionError("closed without an answer")
    status, *headers = head.decode().split("\r\n")
    return httpx.Response(int(status.split()[1]), headers=[line.split(": ", 1) for line in headers], content=content)


async def one_request(url: str, kind: Kind, tally: Tally) -> None:
    """A client that comes again, later each time, while the queue is full."""
    patience = 1.0
    while True:
        started = time.monotonic()
        try:
            answer = await post(url, kind)
        except OSError as error:
            tally.wrong.append(f"no answer: {error!r}")
            return
        if answer.status_code != 503:
            break
        tally.refused += 1
        await asyncio.sleep(float(answer.headers["Retry-After"]) * random.uniform(0.5, 1) * patience)
        patience = min(2 * patience, 16)
    tally.milliseconds.append(1000 * (time.monotonic() - started))
    if answer.status_code == 200:
        stages = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
        tally.served.append(sum(float(stages[stage]) for stage in ("decode", "inference", "encode")))
    if answer.status_code == kind.status and kind.right(answer):
        tally.right += 1
    else:
        tally.wrong.append(f"{answer.status_code}: {answer.text[:200]}")


async def one_round(
    url: str, mix: dict[str, Kind], count: int, tallies: dict[str, Tally], answered: Callable[[], None]
) -> None:
    """Send ``count`` requests at once; ``answered`` is called after each."""

    async def request(name: str) -> None:
        await one_request(url, mix[name], tallies[name])
        answered()

    names = random.choices(list(mix), [kind.share for kind in mix.values()], k=count)
    await asyncio.gather(*map(request, names))


def rows(tallies: dict[str, Tally]) -> dict[str, dict[str, Any]]:
    """Figures of each kind, and of ``all`` of them: counts, ``p50_ms`` and ``p99_ms`` as the clients saw them, and
    ``work_ms``, the median in the server of those that got a mask."""
    everything = Tally()
    for tally in tallies.values():
        everything.right += tally.right
        everything.refused += tally.refused
        for name in ("wrong", "milliseconds", "served"):
            getattr(everything, name).extend(getattr(tally, name))
    return {name: _row(tally) for name, tally in [*tallies.items(), ("all", everything)]}


def _row(tally: Tally) -> dict[str, Any]:
    p50, p99 = np.percentile(tally.milliseconds, [50, 99]) if tally.milliseconds else (None, None)
    work = float(np.median(tally.served)) if tally.served else None
    counts = {"right": tally.right, "wrong": len(tally.wrong), "refused": tally.refused}
    return counts | {"p50_ms": p50, "p99_ms": p99, "work_ms": work}


def show(table: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'request':<18}{'right':>7}{'wrong':>7}{'come again':>12}{'p50 ms':>9}{'p99 ms':>9}{'of that work':>14}")
    for name, row in table.items():
        p50, p99, work = ("-" if row[k] is None else f"{row[k]:.0f}" for k in ("p50_ms", "p99_ms", "work_ms"))
        print(f"{name:<18}{row['right']:7}{row['wrong']:7}{row['refused']:12}{p50:>9}{p99:>9}{work:>14}")


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="at once, per round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=320, help="of the images, 16:9, pixels (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="shipped one, or path of one (default: %(default)s)")
    parser.add_argument("--engine", default="openvino", choices=list(ENGINES), help="default: %(default)s")
    parser.add_argument("--queue", type=int, default=16, help="of the server (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there as JSON, too")
    options = parser.parse_args()
    random.seed(0)
    mix, tallies = kinds(options), defaultdict(Tally)
    with server(options) as (url, pid):
        memory, answers = [resident(pid)], itertools.count(1)
        part = max(1, options.requests * options.rounds // MEMORY_SAMPLES)

        def answered() -> None:
            if next(answers) % part == 0:
                memory.append(resident(pid))

        started = time.monotonic()
        for _ in range(options.rounds):
            asyncio.run(one_round(url, mix, options.requests, tallies, answered))
        duration = time.monotonic() - started
    table = rows({name: tallies[name] for name in mix if name in tallies})
    show(table)
    for text in sorted({text for tally in tallies.values() for text in tally.wrong}):
        print(f"WRONG {text}")
    rate = options.requests * options.rounds / duration
    print(f"{options.rounds} rounds of {options.requests} at once in {duration:.0f} s: {rate:.1f} answers/s")
    print(
        "memory of the server, MiB, at first and after each tenth of the answers:",
        ", ".join(f"{m:.0f}" for m in memory),
    )
    if options.out:
        settings = {name: getattr(options, name) for name in ("requests", "rounds", "width", "engine", "queue")}
        settings["model"] = load_bundle(options.model).name
        document = {"machine": setting(), **settings}
        document |= {"kinds": table, "seconds": round(duration, 1), "memory_mib": [round(m, 1) for m in memory]}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    return int(any(tally.wrong for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
