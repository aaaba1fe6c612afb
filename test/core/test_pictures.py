"""Pictures as cameras, phones and disks leave them: a whole one is decoded, any other refused by what is wrong."""

import dataclasses
import io

import cv2
import numpy as np
import pytest
from PIL import Image

st = pytest.importorskip("hypothesis.strategies", reason="hypothesis is missing: pip install -e '.[test]'")
from hypothesis import HealthCheck, given, settings  # noqa: E402

from seg_node.core import jpeg as jpeg_module  # noqa: E402
from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.core.image_header import video_codec  # noqa: E402
from seg_node.core.images import EncodedPixels, RawPixels, compressed_to_grey, to_bgr  # noqa: E402

quickly = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

END = b"\xff\xd9"
SAMPLING = ("411", "420", "422", "440", "444")


def road(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height))


def jpeg(image: np.ndarray, *, progressive: bool = False, restart: int = 0, sampling: str = "420") -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    return cv2.imencode(".jpg", image, [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1].tobytes()


def decode(data: bytes, text: str = "jpeg") -> np.ndarray:
    return to_bgr(EncodedPixels(text, data))


def reference(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)


jpegs = st.builds(
    lambda size, seed, **options: jpeg(road(*size, seed), **options),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 99),
    progressive=st.booleans(),
    restart=st.integers(0, 3),
    sampling=st.sampled_from(SAMPLING),
)

TRAILERS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\0\0\0\x18ftypmp42" + b"\0\xff\xda\0" * 40, b"\0\xff\xda\0" * 3 + bytes(500), END * 3]),
)


@quickly
@given(data=jpegs, trailer=TRAILERS, factor=st.sampled_from([1, 2, 4, 8]))
def test_whole_jpegs_are_decoded_as_opencv_does_with_or_without_end_and_trailer(data, trailer, factor):
    whole = reference(data)
    for variant in (data, data[:-2], data[:-1], data + trailer, data + data):
        assert np.array_equal(decode(variant), whole)
    grey = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}.get(factor)
    pixels, size = compressed_to_grey(EncodedPixels("", data[:-2]), lambda width: factor)
    assert size == whole.shape[:2] and pixels.flags.c_contiguous
    assert np.array_equal(pixels, reference(data, cv2.IMREAD_REDUCED_GRAYSCALE_8 if grey is None else grey))


@quickly
@given(data=jpegs, share=st.floats(0, 1), end=st.booleans())
def test_a_cut_off_jpeg_is_refused_wherever_it_is_cut(data, share, end):
    # An end marker that a driver puts behind what it has does not make a picture whole. Between two scans it does:
    # then the file itself says that there is no more.
    cut = data[: round(share * (len(data) - 3))]
    progressive = b"\xff\xc2" in data
    with pytest.raises(UndecodableError, match="JPEG|^.{0,30} bytes of format 'jpeg' are no image"):
        decode(cut + END * (end and not progressive))


@pytest.mark.parametrize("seed", range(8))
def test_what_a_webcam_leaves_before_the_end_marker_does_no_harm(seed):
    data = jpeg(road())
    junk = np.random.default_rng(seed).integers(0, 255, 5 + 20 * seed, np.uint8).tobytes()
    assert np.array_equal(decode(data[:-2] + junk + END), reference(data))
    assert np.array_equal(decode(data[:-2] + junk), reference(data))


def test_frames_without_end_marker_one_behind_the_other():
    """A buffer of a camera holds the frame, and some of the one before it."""
    first, second = jpeg(road(seed=1)), jpeg(road(seed=2))
    assert np.array_equal(decode(first[:-2] + second), reference(first))


def test_headers_that_a_decoder_wonders_at_are_no_damage(capfd):
    data = jpeg(road())
    version = data.find(b"JFIF\0") + 5
    odd = data[:version] + b"\x09" + data[version + 1 :]
    assert np.array_equal(decode(odd), reference(data))
    with pytest.raises(UndecodableError, match="cut off, or has no end marker.*JFIF revision"):
        decode(odd[:-2])


def test_chroma_in_a_ratio_that_turbojpeg_has_no_name_for(capfd):
    """Grey, as three blocks of luma and one of each chroma are in one unit: each a DC of 0 and an end of block."""
    data = jpeg(np.full((8, 24, 3), 128, np.uint8), sampling="444")
    frame, scan = data.find(b"\xff\xc0"), data.find(b"\xff\xda")
    header = bytearray(data[: scan + 14])
    header[frame + 11] = 0x31
    bits = ("00" + "1010") * 3 + ("00" + "00") * 2
    bits += "1" * (-len(bits) % 8)
    content = int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert (decode(bytes(header) + content + END) == 128).all()


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_colours_of_print_and_grey(mode):
    out = io.BytesIO()
    Image.fromarray(road()).convert(mode).save(out, "jpeg")
    data = out.getvalue()
    assert np.array_equal(decode(data), reference(data))
    assert np.array_equal(decode(data[:-2]), reference(data))
    with pytest.raises(UndecodableError, match="cut off"):
        decode(data[: len(data) * 3 // 4])


def test_a_progressive_jpeg_that_ends_between_two_scans(capfd):
    data = jpeg(road(), progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] in (b"\xff\xda", b"\xff\xc4")]
    for at in scans[2:]:
        with pytest.raises(UndecodableError, match="the JPEG is cut off"):
            decode(data[:at])


def test_without_simplejpeg_end_markers_tell(monkeypatch, capfd):
    monkeypatch.setattr(jpeg_module, "simplejpeg", None)
    data = jpeg(road())
    assert np.array_equal(decode(data), reference(data))
    assert np.array_equal(decode(data + b"\xff\xda\0" * 40), reference(data))
    with pytest.raises(UndecodableError, match="no end marker to show that it is not .simplejpeg is not installed"):
        decode(data[:-2])
    with pytest.raises(UndecodableError, match="no end marker"):
        decode(data[:-20])


H264 = ["0000000167640028", "00000001 09f0", "00000001 41 9a24", "000001 65 8884", "00000001 0605", "0000000168eb"]
H265 = [
    "00000001 40010c01",
    "00000001 42010101",
    "000001 26 01af",
    "00000001 0201d0",
    "00000001 46 0110",
    "00000001 4e01",
]


@pytest.mark.parametrize(
    ("data", "text", "codec"),
    [
        *((bytes.fromhex(packet), "", "H.264") for packet in H264),
        *((bytes.fromhex(packet), "jpeg", "H.265") for packet in H265),
        (b"\1\2\3", "h264", "H.264"),
        (b"\1\2\3", "bgr8; hevc compressed", "H.265"),
        (b"", "H.265", "H.265"),
        (b"\x12\0", "av1", "AV1"),
    ],
)
def test_packets_of_video_are_named(data, text, codec):
    assert video_codec(data, text) == codec
    with pytest.raises(UndecodableError, match=f"a packet of {codec} video, no picture; decode the video first"):
        decode(data, text)


@quickly
@given(data=st.binary(max_size=40))
def test_other_bytes_are_no_video(data):
    if not data.startswith(b"\0\0"):
        assert video_codec(data, "bgr8; jpeg compressed bgr8") is None


def raw(encoding: str, height: int, width: int, *planes: np.ndarray, padding: tuple[int, ...] = (0,)) -> RawPixels:
    """An image of planes of rows, each row padded as a driver does."""
    padded = [
        np.pad(plane, ((0, 0), (0, more)), constant_values=77) for plane, more in zip(planes, padding, strict=True)
    ]
    return RawPixels(height, width, encoding, 0, padded[0].shape[1], b"".join(plane.tobytes() for plane in padded))


@quickly
@given(
    size=st.tuples(st.integers(1, 10), st.integers(1, 10)), padding=st.integers(0, 7), seed=st.integers(0, 2**32 - 1)
)
def test_every_layout_of_luma_and_chroma_holds_the_same_picture(size, padding, seed):
    """Chroma is alike in 2x2 pixels, so that each layout can hold it; OpenCV's conversion of one is the measure."""
    height, width = 2 * size[0], 2 * size[1]
    rng = np.random.default_rng(seed)
    luma = rng.integers(0, 256, (height, width), np.uint8)
    chroma = rng.integers(0, 256, (*size, 2), np.uint8)
    full = chroma.repeat(2, 0).repeat(2, 1)
    packed = np.empty((height, width, 2), np.uint8)
    packed[..., 0] = luma
    packed[:, ::2, 1], packed[:, 1::2, 1] = full[:, ::2, 0], full[:, 1::2, 1]
    expected = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_YUYV)
    turned, half = packed[..., ::-1].reshape(height, -1), chroma.reshape(size[0], -1)
    images = {
        "yuyv": raw("yuyv", height, width, packed.reshape(height, -1), padding=(padding,)),
        "yuv422_yuy2": raw("yuv422_yuy2", height, width, packed.reshape(height, -1), padding=(padding,)),
        "uyvy": raw("uyvy", height, width, turned, padding=(padding,)),
        "yuv422": raw("yuv422", height, width, turned, padding=(padding,)),
        "nv12": raw("nv12", height, width, luma, half, padding=(padding, padding)),
        "nv21": raw("nv21", height, width, luma, chroma[..., ::-1].reshape(size[0], -1), padding=(padding, padding)),
        "nv24": raw("nv24", height, width, luma, full.reshape(height, -1), padding=(padding, 2 * padding)),
    }
    for name, image in images.items():
        # OpenCV rounds planes and packed pixels each in its own way.
        assert np.abs(to_bgr(image).astype(int) - expected).max() <= 1, name


@quickly
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kind=st.sampled_from(["8U", "8S", "16U", "16S", "32S", "32F", "64F"]),
    channels=st.sampled_from([1, 3, 4]),
    big=st.booleans(),
    padding=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_type_of_number_keeps_brightness(size, kind, channels, big, padding, seed):
    dtype = np.dtype({"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}[kind])
    white = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    shares = np.random.default_rng(seed).random((*size, channels))
    values = (shares * white).astype(dtype)
    rows = values.astype(dtype.newbyteorder(">" if big else "<")).reshape(size[0], -1).view(np.uint8)
    image = dataclasses.replace(raw(f"{kind}C{channels}", *size, rows, padding=(padding,)), is_bigendian=int(big))
    expected = 255 * shares[..., :3]
    assert np.abs(to_bgr(image) - expected).max() <= 1 + 2 * (kind == "8S")
    if dtype.kind != "u":
        values[0, 0, 0] = -1
        rows = values.astype(dtype.newbyteorder("<")).reshape(size[0], -1).view(np.uint8)
        with pytest.raises(UndecodableError, match=f"{kind}C{channels} image holds values from -1"):
            to_bgr(raw(f"{kind}C{channels}", *size, rows))
