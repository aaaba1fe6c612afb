"""Decodes a video in a process of its own: ``python -m seg_node.web.api.video_reader FILE``.

What a stranger's video makes of the decoder then cannot reach the server. On stdout comes a line of JSON with
``width``, ``height``, ``fps`` and ``frames`` (0 where the file does not say), or with ``error``; then the frames, each
height * width * 3 bytes of BGR.
"""

import json
import math
import os
import resource
import sys

# Of the many formats that FFmpeg knows, some are lists of other files, local ones and remote ones.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "protocol_whitelist;file|format_whitelist;mov,matroska,avi"

import cv2  # noqa: E402

MEMORY = 8 * 2**30
"""Bytes of address space, most of which is never used."""

FALLBACK_FPS = 25.0
"""For files that do not say."""


def main(path: str) -> int:
    """Write header and frames; returns the exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    decoded, frame = capture.read()
    if not decoded:
        print(json.dumps({"error": "no frame can be decoded; send MP4, MOV, WebM, MKV or AVI"}), flush=True)
        return 1
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    header = {
        "width": frame.shape[1],
        "height": frame.shape[0],
        "fps": fps if math.isfinite(fps) and 0 < fps <= 240 else FALLBACK_FPS,
        "frames": int(frames) if 0 < frames < 1e9 else 0,
    }
    print(json.dumps(header), flush=True)
    shape = frame.shape
    while decoded and frame.shape == shape:
        sys.stdout.buffer.write(frame.data)
        decoded, frame = capture.read()
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
