"""``python deploy/check_container.py URL``: does a server mask images as the node does, pixel by pixel?

Plays frames of the shipped drive through a real node, which this environment brings, and sends the same JPEGs to the
server, that of a container, say.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np

from seg_node.bags.drive import open_drive

_TRIES_S = 120.0
_MASKS = "/segmentation/mask/compressed"
"""Topic of the node's masks in the bag that a replay writes."""


def wait_until_ready(url: str) -> None:
    """Wait until ``/readyz`` answers 200.

    Raises:
        TimeoutError: it does not.
    """
    ends = time.monotonic() + _TRIES_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if time.monotonic() > ends:
                raise TimeoutError(f"{url}/readyz: {error}") from error
        time.sleep(0.5)


def different(url: str, bag: Path) -> list[int]:
    """Numbers of pixels in which the server's masks differ from a bag's, for each mask of the node in the bag."""
    drive = open_drive(bag, mask_topic=_MASKS)
    found = []
    for frame in drive.frames:
        if frame.stamp in drive.masks:
            request = urllib.request.Request(
                f"{url}/v1/segment", bytes(frame.image.data), {"Content-Type": "image/jpeg"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                mask = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_UNCHANGED)
            found.append(int(np.count_nonzero(mask != drive.masks[frame.stamp])))
    return found


def main() -> int:
    """Compare; returns the exit status: 0, or 1 if there was nothing to compare or a pixel differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the server, such as http://127.0.0.1:8080")
    parser.add_argument("--engine", default="onnxruntime", help="that the server uses (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=20, help="to play (default: %(default)s)")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    wait_until_ready(url)
    with tempfile.TemporaryDirectory() as folder:
        out, bag = Path(folder, "out"), Path(folder, "masked")
        # Slow enough for every frame to be masked.
        replay = ["replay", "--engine", options.engine, "--frames", str(options.frames), "--rate", "2", "--no-video"]
        command = [sys.executable, "-m", "seg_node", *replay, "--out", str(out), "--write-bag", str(bag)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        found = different(url, bag)
    print(json.dumps({"url": url, "engine": options.engine, "masks": len(found), "different_pixels": sum(found)}))
    return 0 if found and not any(found) else 1


if __name__ == "__main__":
    sys.exit(main())
