"""Damaged input on every way in: by name, by property, by chance, and what chance has found before."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

st = pytest.importorskip("hypothesis.strategies", reason="hypothesis is missing: pip install -e '.[test]'")
from cases import CORPUS, read_case, write_case  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from helpers.settings import assert_says_where_it_is_of  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from image_surfaces import (  # noqa: E402
    CompressedSurface,
    RawSurface,
    encoded,
    png_of_size,
    with_checksums,
)
from mutate import damaged  # noqa: E402
from surfaces import ACCEPTED, SURFACES, make_surface  # noqa: E402
from worker import generator  # noqa: E402

FUZZ = ROOT / "fuzz"

import fuzz  # noqa: E402
from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.core.images import EncodedPixels, RawPixels, to_bgr  # noqa: E402
from seg_node.core.jpeg import MAX_SCANS  # noqa: E402

PICTURE = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
JPEG, PNG = encoded(".jpg", PICTURE), encoded(".png", PICTURE)
PROGRESSIVE = encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
LARGEST = 2**32 - 1

given_randomly = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def raw(**changes) -> RawPixels:
    fields = {"height": 4, "width": 6, "encoding": "bgr8", "is_bigendian": 0, "step": 18, "data": bytes(72)}
    return RawPixels(**fields | changes)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (raw(encoding=""), "encoding ''"),
        (raw(encoding="BGR8"), "encoding 'BGR8'"),
        (raw(encoding="x" * 10**6), r"encoding 'x{40}\.\.\.'"),
        (raw(encoding="rgba8"), "step is 18 bytes, but a row of 6 rgba8 pixels takes 24"),
        (raw(step=0), "step is 0 bytes"),
        (raw(step=17), "step is 17 bytes"),
        (raw(step=LARGEST), "4 rows of step 4294967295 take 17179869180"),
        (raw(height=0), "6x0"),
        (raw(width=0), "0x4"),
        (raw(height=0, width=0, step=0, data=b""), "0x0"),
        (raw(height=LARGEST), "6x4294967295; at most"),
        (raw(width=LARGEST), "4294967295x4; at most"),
        (raw(width=LARGEST, height=LARGEST, step=LARGEST), "at most 67108864 pixels"),
        (raw(data=bytes(71)), "data is 71 bytes, but 4 rows of step 18 take 72"),
        (raw(data=bytes(73)), "data is 73 bytes"),
        (raw(data=b""), "data is 0 bytes"),
        (raw(encoding="nv12", height=3, width=5), "5x3"),
    ],
)
def test_raw_images_that_contradict_themselves(message, reason):
    with pytest.raises(UndecodableError, match=reason):
        to_bgr(message)


@pytest.mark.parametrize("flag", [0, 1, 2, 255])
def test_endianness(flag):
    samples = np.array([[0x1234, 0xFF00]], ">u2" if flag else "<u2")
    image = RawPixels(1, 2, "mono16", flag, 4, samples.tobytes())
    assert to_bgr(image)[0, :, 0].tolist() == [0x12, 0xFF]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_of_size(PNG, 30000, 30000), "30000x30000; at most 67108864 pixels"),
        (png_of_size(PNG, 1, 50000), "1x50000; at most .* 16384 on a side"),
        (png_of_size(PNG, 2**31 - 1, 2**31 - 1), "at most"),
        (png_of_size(PNG, 16384, 4097), "at most"),
        (png_of_size(PNG, 0, 12), "0x12; expected at least one pixel"),
        (JPEG.replace(b"\0\x0c\0\x10\x03", b"\xff\xff\xff\xff\x03"), "65535x65535; at most"),
        (PNG[:33] + b"\x7f\xff\xff\xff" + PNG[37:], "the PNG is cut off"),
        (PNG[:-12] + b"\x7f\xff\xff\xff" + PNG[-8:], ": the PNG is cut off$"),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 2000, ": the JPEG has no frame header with its size$"),
        (b"II*\0" + bytes(50), "neither JPEG nor PNG"),
        (encoded(".bmp", PICTURE), "neither JPEG nor PNG"),
        (b"", "^0 bytes of format 'jpeg' .* neither"),
        (JPEG[:-3], ": the JPEG is cut off or damaged: Corrupt JPEG data: premature end of data segment$"),
        (JPEG[:-20] + b"\xff\xd9" + JPEG, "the JPEG is cut off or damaged: .*premature end of data segment$"),
    ],
)
def test_compressed_images_that_must_not_be_decoded(data, reason):
    with pytest.raises(UndecodableError, match=reason):
        to_bgr(EncodedPixels("jpeg", data))


def test_jpeg_of_endless_scans():
    """Each scan costs a pass over the image, in 33 bytes for one of 4096x4096: 16 MB would take hours."""
    last, end = PROGRESSIVE.rfind(b"\xff\xda"), PROGRESSIVE.rfind(b"\xff\xd9")
    bomb = PROGRESSIVE[:last] + PROGRESSIVE[last:end] * MAX_SCANS + PROGRESSIVE[end:]
    assert to_bgr(EncodedPixels("jpeg", PROGRESSIVE)).shape == PICTURE.shape
    most = PROGRESSIVE[:last] + PROGRESSIVE[last:end] * (MAX_SCANS + 1 - PROGRESSIVE.count(b"\xff\xda")) + b"\xff\xd9"
    assert most.count(b"\xff\xda") == MAX_SCANS
    assert to_bgr(EncodedPixels("jpeg", most)).shape == PICTURE.shape
    with pytest.raises(UndecodableError, match=f"more than {MAX_SCANS} scans"):
        to_bgr(EncodedPixels("jpeg", bomb))


def test_bombs_are_refused_before_memory_is_asked_for(tmp_path):
    """In a process that may have 128 MiB more than it has; the images would take from 200 MB to 12 GB."""
    chunks = [PNG[:at] + b"\x7f\xff\xff\x00" + PNG[at + 4 :] for at in (33, len(PNG) - 12)]
    bombs = [png_of_size(PNG, 30000, 30000), png_of_size(PNG, 2**16, 2**16), *chunks]
    write_case(tmp_path / "bombs.json", {"bombs": bombs})
    program = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(FUZZ)!r})
from cases import read_case
from seg_node.core.images import EncodedPixels, to_bgr
from seg_node.core.errors import UndecodableError
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27,) * 2)
for data in read_case(Path(sys.argv[1]))["bombs"]:
    try:
        to_bgr(EncodedPixels("png", data))
    except UndecodableError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bombs.json"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(": ", 1)[1].split()[0] for line in done.stdout.splitlines()] == ["image", "image", "the", "the"]


@pytest.mark.parametrize("data", [JPEG, PNG, PROGRESSIVE], ids=["jpeg", "png", "progressive"])
def test_no_part_of_an_image_passes_for_the_whole(data):
    whole = to_bgr(EncodedPixels("", data))
    assert whole.shape == PICTURE.shape
    # The end marker of a JPEG is no part of the picture, and some cameras leave it out.
    parts = len(data) - 2 * (data != PNG)
    for size in range(parts):
        with pytest.raises(UndecodableError):
            to_bgr(EncodedPixels("", data[:size]))
    for size in range(parts, len(data)):
        assert np.array_equal(to_bgr(EncodedPixels("", data[:size])), whole)
    # What a camera leaves in its buffer after the image does no harm.
    for rest in (bytes(100), data):
        assert np.array_equal(to_bgr(EncodedPixels("", data + rest)), whole)


@pytest.mark.ros
@pytest.mark.parametrize("name", ["max_age_ms", "deadline_ms"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_times_that_are_no_numbers(name, value):
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    from rclpy.parameter import Parameter

    from seg_node.ros.parameters import check

    assert f"{name} is {value}; expected a finite number" in check(Parameter(name, value=value), "active")


@given_randomly
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    padding=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
    encoding=st.sampled_from(["bgr8", "rgb8", "bgra8", "mono8"]),
)
def test_every_size_and_padding_keeps_every_pixel(size, padding, seed, encoding):
    channels = {"mono8": 1, "bgra8": 4}.get(encoding, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)
    rows = np.pad(pixels.reshape(size[0], -1), ((0, 0), (0, padding)), constant_values=99)
    decoded = to_bgr(RawPixels(*size, encoding, 0, rows.shape[1], rows.tobytes()))
    expected = {"rgb8": pixels[..., ::-1], "mono8": np.repeat(pixels[..., :1], 3, 2)}.get(encoding, pixels[..., :3])
    assert np.array_equal(decoded, expected)


@given_randomly
@given(rng=st.randoms(use_true_random=False))
def test_raw_images_end_as_documented(rng):
    surface = RawSurface(Path())
    surface.feed(surface.draw(rng))


COMPRESSED = CompressedSurface(Path())


@given_randomly
@given(rng=st.randoms(use_true_random=False))
def test_compressed_images_end_as_documented(rng):
    COMPRESSED.feed(COMPRESSED.draw(rng))


def _needs(surface: str) -> None:
    if surface == "http":
        pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")


@pytest.mark.parametrize("surface", [surface for surface in SURFACES if surface != "parameters"])
def test_short_run(surface, tmp_path):
    _needs(surface)
    _short_run(surface, tmp_path)


@pytest.mark.ros
def test_short_run_of_parameters(tmp_path):
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    _short_run("parameters", tmp_path)


def _short_run(surface, tmp_path):
    result = fuzz.fuzz(surface, 200, seed=7, limit=60, out=tmp_path, progress=lambda _: None)
    assert not result.findings
    assert result.inputs == 200
    # A surface that refuses, or accepts, all that it is given is not tested by it.
    assert result.accepted > 5
    assert sum(result.refused.values()) > 5


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*/*.json")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_what_was_found_before(file, tmp_path):
    _needs(file.parent.name)
    surface = make_surface(file.parent.name, tmp_path)
    try:
        assert surface.feed(read_case(file)) != ACCEPTED
    finally:
        surface.close()


PLANTED = """
import os, time
from surfaces import Surface, ContractError

class Planted(Surface):
    def draw(self, rng):
        return {"number": rng.randrange(10**6), "data": rng.randbytes(3)}

    def feed(self, case):
        PLANTED_BEHAVIOUR
        return "accepted" if case["number"] % 2 else "Refusal"
"""


def _planted(tmp_path, monkeypatch, behaviour: str, limit: float = 60) -> fuzz.Result:
    (tmp_path / "planted.py").write_text(PLANTED.replace("PLANTED_BEHAVIOUR", behaviour))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return fuzz.fuzz("planted:Planted", 300, 3, limit, tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("behaviour", "kind", "detail"),
    [
        ("if case['number'] % 100 == 0: os.abort()", "crash", "SIGABRT"),
        ("if case['number'] % 100 == 0: os._exit(3)", "crash", "status 3"),
        ("if case['number'] % 100 == 0: time.sleep(10**6)", "hang", "no end after 2 s"),
        ("if case['number'] % 100 == 0: {}['gone']", "KeyError", "gone"),
        ("if case['number'] % 100 == 0: raise ContractError('wrong')", "ContractError", "wrong"),
        ("if case['number'] % 100 == 0: bytearray(2**40)", "MemoryError", ""),
    ],
)
def test_the_fuzzer_finds(behaviour, kind, detail, tmp_path, monkeypatch):
    numbers = [generator(3, index).randrange(10**6) for index in range(300)]
    bad = [index for index, number in enumerate(numbers) if number % 100 == 0]
    assert 1 < len(bad) < 5
    # On a busy machine an input may wait for its turn for a second.
    result = _planted(tmp_path, monkeypatch, behaviour, limit=2 if kind == "hang" else 60)
    assert [(found.index, found.kind) for found in result.findings] == [(index, kind) for index in bad]
    assert all(detail in found.detail for found in result.findings)
    assert result.inputs == 300 - len(bad)
    kept = read_case(Path(result.findings[0].file))
    assert kept["number"] == numbers[bad[0]] and isinstance(kept["data"], bytes)
    assert not result.sound


def test_the_fuzzer_finds_nothing_where_there_is_nothing(tmp_path, monkeypatch):
    result = _planted(tmp_path, monkeypatch, "pass")
    assert result.sound
    assert (result.inputs, result.accepted + result.refused["Refusal"]) == (300, 300)
    assert "planted:Planted" in fuzz.table([result])


def test_growth_is_that_of_the_second_half():
    steady = [100 * 2**20] * 30
    assert fuzz._growth(steady) == 0
    assert fuzz._growth([2**20 * n for n in range(15)] + steady) == 0
    assert fuzz._growth([2**20 * n for n in range(100)]) == 40
    assert not fuzz.Result("x", growth_mib=fuzz.GROWTH_LIMIT + 1).sound


def test_cases_are_kept_as_they_are(tmp_path):
    case = {"text": "é\ud800\0", "bytes": bytes(range(256)), "numbers": [1, -(2**63), 0.5], "inner": {"none": None}}
    write_case(tmp_path / "case.json", case)
    assert read_case(tmp_path / "case.json") == case


def test_damage_is_that_of_the_seed():
    results = [damaged(Random(seed), PNG, [JPEG]) for seed in range(50)]
    assert results == [damaged(Random(seed), PNG, [JPEG]) for seed in range(50)]
    assert len(set(results)) > 45
    assert with_checksums(PNG) == PNG


def test_guided_by_coverage(tmp_path):
    pytest.importorskip("atheris", reason="atheris is missing: pip install -e '.[fuzz]'")
    (tmp_path / "corpus").mkdir()
    command = [sys.executable, FUZZ / "guided.py", "image", tmp_path / "corpus", "-runs=300", "-max_len=400"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=fuzz.environment())
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr


def test_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fuzz.main(["--surface", "image", "--inputs", "50", "--limit", "60"]) == 0
    report = json.loads((tmp_path / "fuzz_output" / "fuzz.json").read_text())
    assert [(s["surface"], s["inputs"]) for s in report["surfaces"]] == [("image", 50)]
    assert_says_where_it_is_of(report)
    assert "UndecodableError" in capsys.readouterr().out
