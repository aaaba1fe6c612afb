"""Image messages as cameras write them."""

import array

import cv2
import numpy as np
from sensor_msgs.msg import Image


def encode(bgr, encoding, padding=0, bigendian=False):
    """Image message of a BGR image: the inverse of what is tested, written out by hand."""
    height, width = bgr.shape[:2]
    blue, green, red = (bgr[..., i] for i in range(3))
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    opaque = np.full_like(blue, 255)
    if encoding in ("bgr8", "8UC3"):
        rows = bgr.reshape(height, -1)
    elif encoding == "rgb8":
        rows = np.stack([red, green, blue], -1).reshape(height, -1)
    elif encoding == "bgra8":
        rows = np.stack([blue, green, red, opaque], -1).reshape(height, -1)
    elif encoding == "rgba8":
        rows = np.stack([red, green, blue, opaque], -1).reshape(height, -1)
    elif encoding in ("mono8", "8UC1"):
        rows = grey
    elif encoding == "mono16":
        rows = _two_bytes(grey, bigendian)
    elif encoding.startswith("bayer_"):
        pattern, depth = encoding[6:10], encoding[10:]
        mosaic = np.empty_like(blue)
        for position, letter in enumerate(pattern):
            row, column = divmod(position, 2)
            plane = {"r": red, "g": green, "b": blue}[letter]
            mosaic[row::2, column::2] = plane[row::2, column::2]
        rows = mosaic if depth == "8" else _two_bytes(mosaic, bigendian)
    else:
        # BT.601, limited range: ITU-R BT.601-7.
        y = np.round(16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256).astype(np.uint8)
        u = np.round(128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256).astype(np.uint8)
        v = np.round(128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256).astype(np.uint8)
        if encoding == "nv12":
            chroma = np.stack([u[::2, ::2], v[::2, ::2]], -1).reshape(height // 2, width)
            rows = np.concatenate([y, chroma])
        else:
            chroma = np.empty_like(y)
            chroma[:, ::2], chroma[:, 1::2] = u[:, ::2], v[:, ::2]
            order = [chroma, y] if encoding == "yuv422" else [y, chroma]
            rows = np.stack(order, -1).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=int(bigendian),
        data=array.array("B", padded.tobytes()),
    )


def _two_bytes(plane, bigendian):
    return (plane.astype(np.uint16) * 256 + 5).astype(">u2" if bigendian else "<u2").view(np.uint8)
