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
    planes = {
        "bgr": [blue, green, red],
        "rgb": [red, green, blue],
        "bgra": [blue, green, red, opaque],
        "rgba": [red, green, blue, opaque],
        "mono": [grey],
    }
    if encoding.rstrip("0123456789") in planes:
        rows = np.stack(planes[encoding.rstrip("0123456789")], -1).reshape(height, -1)
        rows = _two_bytes(rows, bigendian) if encoding.endswith("16") else rows
    elif encoding[:1].isdigit():
        kind, channels = encoding.split("C")
        rows = np.stack(planes[{"1": "mono", "3": "bgr", "4": "bgra"}[channels]], -1).reshape(height, -1)
        if kind != "8U":
            rows = _two_bytes(rows, bigendian) if kind == "16U" else _of_type(rows, kind, bigendian)
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
        if encoding in ("nv12", "nv21"):
            order = [u, v] if encoding == "nv12" else [v, u]
            chroma = np.stack([plane[::2, ::2] for plane in order], -1).reshape(height // 2, width)
            rows = np.concatenate([y, chroma])
        elif encoding == "nv24":
            # Two bytes for each pixel in a row of twice the length, its padding, too.
            chroma = np.pad(np.stack([u, v], -1).reshape(height, 2 * width), ((0, 0), (0, 2 * padding)))
            rows = y
        else:
            chroma = np.empty_like(y)
            chroma[:, ::2], chroma[:, 1::2] = u[:, ::2], v[:, ::2]
            order = [chroma, y] if encoding in ("yuv422", "uyvy") else [y, chroma]
            rows = np.stack(order, -1).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=int(bigendian),
        data=array.array("B", padded.tobytes() + (chroma.tobytes() if encoding == "nv24" else b"")),
    )


def _two_bytes(plane, bigendian):
    return (plane.astype(np.uint16) * 256 + 5).astype(">u2" if bigendian else "<u2").view(np.uint8)


def _of_type(samples, kind, bigendian):
    """Samples of which 255 is white as numbers of a type of OpenCV."""
    dtype = {"8S": "i1", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}[kind]
    white = 1 if kind.endswith("F") else np.iinfo(dtype).max
    values = samples * (white / 255)
    return (values if white == 1 else np.rint(values)).astype((">" if bigendian else "<") + dtype).view(np.uint8)
