"""The dashboard: its pictures and tables by themselves, its page in Streamlit's harness, and all of it in Chromium."""

import argparse
import base64
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="streamlit is missing: pip install -e '.[dashboard]'")

from helpers.browser import Browser  # noqa: E402
from helpers.made_up import experiment, listened  # noqa: E402
from helpers.paths import ROOT
from helpers.serving import MODEL as SERVED  # noqa: E402
from streamlit.testing.v1 import AppTest  # noqa: E402

from seg_node.__main__ import main  # noqa: E402
from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.bags.writer import BagWriter  # noqa: E402
from seg_node.compare import tables as comparison_tables  # noqa: E402
from seg_node.compare.comparison import load_comparison  # noqa: E402
from seg_node.compare.verdict import judged  # noqa: E402
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.images import to_bgr  # noqa: E402
from seg_node.core.profile.file import read_profile  # noqa: E402
from seg_node.core.taxonomy import EIGHT, NO_LABEL, PALETTE_RGB  # noqa: E402
from seg_node.web.dashboard import charts, glance_tab, pictures, tables  # noqa: E402
from seg_node.web.dashboard.image_tab import SCENES  # noqa: E402
from seg_node.web.dashboard.maskers import InProcess, MaskError, Remote  # noqa: E402
from seg_node.web.dashboard.results import Results, find_results  # noqa: E402

ENGINE = "onnxruntime"
MODELS = (DEFAULT_MODEL, "fpn_convnextv2")
RESULTS = ROOT / "docs" / "results"
DECISION = judged(load_comparison(RESULTS / "comparison.json")).decision.sentence
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A drive of three small frames of the shipped one, the last of them without truth."""
    shipped = open_drive(ROOT / "rosbags" / "synthetic_drive", duration=2.0)
    path = tmp_path_factory.mktemp("bag") / "drive"
    with BagWriter(path) as writer:
        for i in range(3):
            frame = shipped.frames[15 * i]
            bgr = to_bgr(frame.image)
            writer.write_image(frame.stamp, cv2.resize(bgr, (160, 96), interpolation=cv2.INTER_AREA))
            if i < 2:
                mask = cv2.resize(shipped.masks[frame.stamp], (160, 96), interpolation=cv2.INTER_NEAREST)
                writer.write_mask(frame.stamp, mask)
    return path


@pytest.fixture(scope="module")
def drive(bag):
    return open_drive(bag)


@pytest.fixture(scope="module")
def expected(drive):
    """Mask of the middle frame by model, from the engine itself."""
    bgr = to_bgr(drive.frames[1].image)
    return {name: create_engine(load_bundle(name), ENGINE).infer(bgr)[0] for name in MODELS}


def _lightness_and_colour(rgb):
    return cv2.cvtColor(rgb.reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", TVCG 2009, at
# full severity, for linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _nearest(palette, deficiency):
    """Distance in CIELAB of the two colours that are hardest to tell apart."""
    linear = (palette / 255.0) ** 2.2
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1) ** (1 / 2.2) * 255
    lab = _lightness_and_colour(seen)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distances[np.triu_indices(len(palette), 1)].min()


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_are_told_apart_by_everybody(deficiency):
    # About 2.3 is just noticeable (Mahy et al., Color Research and Application 19, 1994).
    assert _nearest(np.array(pictures.ACCESSIBLE.palette), deficiency) > 8 > 0
    assert (
        _nearest(np.array(pictures.ACCESSIBLE.palette), deficiency) > _nearest(PALETTE_RGB, deficiency)
        or deficiency == "tritanopia"
    )


def test_masks_are_painted_and_named():
    mask = np.full((120, 200), 1, np.uint8)
    mask[:, 100:] = 5
    mask[0, 0] = NO_LABEL
    plain = pictures.painted(mask, pictures.ACCESSIBLE, named=False)
    assert (plain[:, 100:] == pictures.ACCESSIBLE.palette[5][::-1]).all()
    assert (plain[0, 0] == 255).all()
    changed = (pictures.painted(mask, pictures.ACCESSIBLE, named=True) != plain).any(-1)
    # One name in each half, at its middle, and small.
    for half in (changed[:, :100], changed[:, 100:]):
        assert 0 < half.mean() < 0.2
        assert abs(np.argwhere(half).mean(0) - (60, 50)).max() < 12


@pytest.mark.parametrize("size", [(360, 640), (90, 160), (40, 60), (24, 30)])
def test_names_are_whole_and_on_dark_plates(size, monkeypatch):
    """Narrow categories at every edge: a name is moved into the picture, and made small where it fits nowhere."""
    drawn = []
    original = cv2.putText

    def note(picture, text, at, font, scale, colour, thickness, *rest):
        (wide, high), _ = cv2.getTextSize(text, font, scale, thickness)
        drawn.append((text, at[0], at[1] - high, at[0] + wide, at[1]))
        plate = picture[max(at[1] - high, 0) : at[1], max(at[0], 0) : at[0] + wide]
        # White on this has a contrast of 12 and more.
        assert plate.size and plate.max() <= 255 // 5
        return original(picture, text, at, font, scale, colour, thickness, *rest)

    monkeypatch.setattr(pictures.cv2, "putText", note)
    height, width = size
    mask = np.full(size, 5, np.uint8)
    mask[:, : width // 10], mask[:, -width // 10 :] = 2, 3
    mask[-height // 10 :], mask[: height // 10, : width // 2] = 7, 4
    pictures.painted(mask, pictures.ACCESSIBLE, named=True)
    assert {name for name, *_ in drawn} == {"sky", "construction", "object", "vehicle", "nature"}
    for name, left, top, right, bottom in drawn:
        assert left >= 0 and top >= 0 and right <= width and bottom <= height, name
    if width >= 160:
        boxes = [box for _, *box in drawn]
        for i, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[i + 1 :]:
                apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                assert apart, "no name hides another"


def test_a_mask_in_words():
    mask = np.array([[1, 1, 1, 5], [1, 1, 5, NO_LABEL]], np.uint8)
    assert pictures.in_words(mask, EIGHT) == "flat 62.5 %, sky 25.0 %"
    assert pictures.in_words(np.full((2, 2), NO_LABEL, np.uint8), EIGHT) == "nothing labelled"


def test_scores_of_an_image_by_hand():
    truth = np.array([[1, 1, 1, 5, NO_LABEL]], np.uint8)
    guess = np.array([[1, 1, 5, 5, 7]], np.uint8)
    header, rows = tables.image_scores(truth, {"a": guess}, EIGHT)
    assert header == ["category", "a, IoU", "a, F1"]
    found = {name: cells for name, *cells in rows}
    # flat: 2 of 3, sky: 1 of 2; F1 is 2 IoU / (1 + IoU).
    assert found["flat"] == ["66.7", "80.0"]
    assert found["sky"] == ["50.0", "66.7"]
    assert found["vehicle"] == ["-", "-"]
    assert found["mean of those present"] == ["58.3", "73.3"]


def test_results_are_found_by_what_they_hold(tmp_path):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    # Killed after step 2, resumed from a checkpoint at step 1, and just writing.
    steps = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 2.0}]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, steps)) + '\n{"step": 3, "lo')
    (tmp_path / "runs" / "other.json").write_text('{"schema": 1}')
    (tmp_path / "runs" / "broken.json").write_text("{")
    (tmp_path / "runs" / "other.jsonl").write_text('{"step": 1}\n[]\n')
    study = {"question": "Loss", "variants": {}, "summary": {}}
    (tmp_path / "runs" / "results.json").write_text(json.dumps(study))
    found = find_results([tmp_path / "runs", RESULTS])
    assert [record["loss"] for record in found.runs["runs/one"]] == [3.0, 2.0]
    assert "runs/other" not in found.runs
    assert "results/runs/fpn_resnet50" in found.runs
    assert found.studies["runs/results.json"] == study
    assert set(found.comparisons) >= {"results/comparison.json"}
    assert all(json.loads(path.read_text())["schema"] == "seg_node/comparison" for path in found.comparisons.values())


def test_curves_say_their_numbers():
    records = [{"step": i, "loss": 4.0 / i} for i in range(1, 101)]
    records[49]["val_few"] = [{"miou_7": 33.3}]
    figure = charts.training_curves({"one": records})
    assert "one: 100 steps, loss 3.00 to 0.04, miou_7 33.3 % at step 50" in figure.numbers
    assert figure.svg.startswith("<svg")


def test_a_short_run_beside_a_long_one_is_seen():
    """Four steps beside thousands would be a dash at the edge: both are drawn by their share of the run."""
    long = [{"step": i, "loss": 4.0 / i} for i in range(1, 4001)]
    short = [{"step": i, "loss": 3.0 - i / 10} for i in range(1, 5)]
    text = charts.training_curves({"long": long, "short": short}).svg
    for words in ("share of the run, %", "long, 4000 steps", "short, 4 steps"):
        assert words in text
    alone = charts.training_curves({"short": short}).svg
    assert ">step<" in alone and "share of the run" not in alone
    assert ">step<" in charts.training_curves({"long": long, "other": long[:1000]}).svg


def test_times_are_written_for_people():
    from seg_node.web.dashboard.comparison_tab import _when

    assert _when("2026-11-26T02:37:23+00:00") == "26 November 2026, 02:37 UTC"
    assert _when("2026-11-26T01:37:23+02:00") == "25 November 2026, 23:37 UTC"
    assert _when("2026-11-26T02:37:23") == "26 November 2026, 02:37"


def test_masks_are_those_of_the_engine(drive, expected, server):
    image, name = drive.frames[1].image.data.tobytes(), MODELS[0]
    here, there = InProcess(engine=ENGINE), Remote(server.url)
    for masker, first in ((here, name), (there, SERVED)):
        assert list(masker.models())[0] == first
        assert masker.models().keys() >= set(MODELS)
    assert here.models()[name]["metrics"] == there.models()[name]["metrics"]
    one, other = here.mask(image, name), there.mask(image, name)
    for masked in (one, other):
        np.testing.assert_array_equal(masked.mask, expected[name])
        assert masked.engine == ENGINE
        assert masked.milliseconds > 0
    np.testing.assert_array_equal(one.confidence, other.confidence)


def test_what_cannot_be_masked_says_why(server):
    with pytest.raises(MaskError, match="no image that can be decoded"):
        InProcess(engine=ENGINE).mask(b"no image", MODELS[0])
    with pytest.raises(MaskError, match="answers 415: the data is neither JPEG nor PNG"):
        Remote(server.url).mask(b"no image", MODELS[0])
    with pytest.raises(MaskError, match="127.0.0.1:9 cannot be reached .* start it with `make serve`"):
        Remote("http://127.0.0.1:9").models()


def _page(options):
    from seg_node.web.dashboard.app import page

    page(options)


@pytest.fixture
def app(bag):
    """The page as Streamlit draws it, with options of the command."""

    def start(**options):
        given = {"api": None, "model": [], "engine": ENGINE, "bag": bag, "results": [RESULTS]} | options
        test = AppTest.from_function(_page, default_timeout=TIMEOUT_S, args=(argparse.Namespace(**given),))
        test.run()
        assert not test.exception, test.exception
        return test

    return start


def _html(app):
    return "".join(element.proto.body for element in app.get("html"))


def test_page_shows_masks_scores_runs_and_comparison(app, drive, expected):
    page = app()
    shown = _html(page)
    for name in MODELS:
        assert f'alt="Mask of {name}: {pictures.in_words(expected[name], EIGHT)}"' in shown
    differ = 100 * (expected[MODELS[0]] != expected[MODELS[1]]).mean()
    assert f"Disagreement in orange: {differ:.1f} % of the pixels" in shown
    truth = drive.masks[drive.frames[1].stamp]
    assert f"True mask: {pictures.in_words(truth, EIGHT)}" in shown
    text = "\n".join(element.value for element in page.markdown)
    for row in tables.image_scores(truth, expected, EIGHT)[1]:
        assert " | ".join(row) in text
    assert page.subheader[-1].value == DECISION
    assert "Above the loss, a moving mean" in shown
    assert "Offline accuracy (hollow)" in shown
    assert not re.search(r'<img(?![^>]*alt="[^"]+")', shown)


def test_another_frame_without_truth(app):
    page = app()
    before = _html(page)
    page.slider(key="frame").set_value(2).run()
    assert not page.exception
    after = _html(page)
    assert "The true mask of this image is not known." in after
    assert re.findall('alt="Mask of [^"]*"', after) != re.findall('alt="Mask of [^"]*"', before)


def test_made_up_scenes_are_what_they_are_called(app):
    """The shipped bag holds, for each name, that light and weather with its exact mask, and the page shows it."""
    pytest.importorskip("torch", reason="torch is missing: install the training extra")
    from seg_training.datasets.synthetic import SyntheticDrive

    shipped = open_drive(ROOT / "rosbags" / "synthetic_scenes")
    assert len(shipped.frames) == len(SCENES)
    for seed, (name, frame) in enumerate(zip(SCENES, shipped.frames, strict=True)):
        light, weather = name.split(", ")
        bgr, mask = SyntheticDrive(seed, (360, 480), light=light, weather=weather).frame(0)
        np.testing.assert_array_equal(shipped.masks[frame.stamp], mask)
        assert np.abs(to_bgr(frame.image).astype(int) - bgr).mean() < 6, "JPEG loses a little"
    page = app()
    page.radio(key="source").set_value("A made-up scene").run()
    assert not page.exception
    page.selectbox(key="scene").set_value("dusk, fog").run()
    assert not page.exception
    truth = shipped.masks[shipped.frames[SCENES.index("dusk, fog")].stamp]
    assert f"True mask: {pictures.in_words(truth, EIGHT)}" in _html(page)


def _tab(results):
    from seg_node.web.dashboard import comparison_tab

    comparison_tab.show(results)


def test_comparison_shows_the_mask_of_now(tmp_path):
    found = listened(experiment((300.0, 240.0), (0.6, 0.5)), 0.1)
    found.save(tmp_path / "comparison.json")
    results = Results(comparisons={"one": tmp_path / "comparison.json"})
    test = AppTest.from_function(_tab, default_timeout=TIMEOUT_S, args=(results,)).run()
    assert not test.exception
    text = "\n".join(element.value for element in test.markdown)
    for table in (comparison_tables.now(found), comparison_tables.now_by_age(found)):
        assert all(" | ".join(row) in text for row in table[1])
    assert "alpha: ~/mask_now holds for 33 ms after its frame" in _html(test)


def test_page_says_what_is_missing(app, tmp_path):
    page = app(results=[tmp_path], bag=tmp_path / "none")
    said = " ".join(element.value for element in page.info)
    for words in ("none", "No training run found", "No study found", "No comparison found"):
        assert words in said
    page = app(api="http://127.0.0.1:9")
    assert "start it with `make serve`" in page.error[0].value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nowhere"], "nowhere does not exist"),
        (["--model", "nowhere"], "no bundle 'nowhere'"),
        (["--api", "localhost:8000"], "expected an address like http://127.0.0.1:8000"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    assert main(["dashboard", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """What ``seg_node replay`` leaves of two seconds of the shipped drive, with the mask of now."""
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    folder = tmp_path_factory.mktemp("replay") / "demo_output"
    arguments = ["--duration", "2", "--forecast", "33.3", "--engine", ENGINE, "--model", "fpn_lite"]
    command = [sys.executable, "-m", "seg_node", "replay", *arguments, "--out", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture
def dashboard(bag, tmp_path):
    """Address of ``python -m seg_node dashboard``."""
    with _dashboard(tmp_path / "log", "--bag", str(bag), "--results", str(RESULTS)) as address:
        yield address


@contextlib.contextmanager
def _dashboard(log, *arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "seg_node", "dashboard", "--port", str(port), "--engine", ENGINE]
    with log.open("w") as output:
        process = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not _healthy(address):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(60)
        print(log.read_text())


def _healthy(address):
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def _open_tab(browser, name):
    browser.wait_for(f"[...document.querySelectorAll('[role=tab]')].some(t => t.innerText === '{name}')", TIMEOUT_S)
    browser.evaluate(f"[...document.querySelectorAll('[role=tab]')].find(t => t.innerText === '{name}').click()")


TABS = ("At a glance", "Image", "Training", "Replay comparison")
ALT = "[...document.querySelectorAll('img')].map(i => i.alt)"


def test_upload_to_masks_to_comparison_in_a_browser(dashboard, drive, expected, tmp_path):
    frame = drive.frames[1]
    image, truth = tmp_path / "road.jpg", tmp_path / "truth.png"
    image.write_bytes(frame.image.data.tobytes())
    cv2.imwrite(str(truth), drive.masks[frame.stamp])
    with Browser(dashboard, 1400, 1000) as browser:
        _open_tab(browser, "Image")
        browser.wait_for(
            "[...document.querySelectorAll('label')].some(l => l.innerText.trim() === 'Your own image')", TIMEOUT_S
        )
        browser.evaluate(
            "[...document.querySelectorAll('label')].find(l => l.innerText.trim() === 'Your own image').click()"
        )
        browser.wait_for("document.querySelectorAll('input[type=file]').length === 2", TIMEOUT_S)
        browser.upload(".st-key-image input[type=file]", image)
        masks = [f"Mask of {name}: {pictures.in_words(expected[name], EIGHT)}" for name in MODELS]
        browser.wait_for(f"{json.dumps(masks)}.every(m => {ALT}.includes(m))", TIMEOUT_S)
        browser.upload(".st-key-truth input[type=file]", truth)
        words = f"True mask: {pictures.in_words(drive.masks[frame.stamp], EIGHT)}"
        browser.wait_for(f"{ALT}.includes({json.dumps(words)})", TIMEOUT_S)
        # What is shown is the mask itself, pixel by pixel, under the names.
        browser.evaluate("document.querySelector('.st-key-named input').click()")
        plain = pictures.painted(expected[MODELS[0]], pictures.ACCESSIBLE, named=False)
        data = base64.b64encode(cv2.imencode(".png", plain)[1]).decode()
        browser.wait_for(
            f"[...document.querySelectorAll('img')].some(i => i.src.endsWith({json.dumps(data)}))", TIMEOUT_S
        )
        _open_tab(browser, "Replay comparison")
        browser.wait_for(f"document.body.innerText.includes({json.dumps(DECISION)})", TIMEOUT_S)
        _fits_a_telephone(browser)
        shown = "[...document.querySelectorAll('img')].filter(i => i.offsetParent)"
        browser.wait_for(
            f"{shown}.length > 4 && {shown}.every(i => i.complete && i.naturalWidth > 0 && i.alt)", TIMEOUT_S
        )


def test_a_drive_at_a_glance_in_a_browser(replayed, tmp_path, record_property):
    """The first tab: a video that plays and has captions, which model, which settings, how sure; for everybody."""
    address = ["--results", str(replayed), "--results", str(RESULTS)]
    with _dashboard(tmp_path / "log", *address) as url, Browser(url, 1280, 900) as browser:
        # Since the page was asked for, on the browser's clock.
        arrived = "document.querySelector('video')?.readyState >= 2 && performance.now()"
        first = browser.wait_for(arrived, TIMEOUT_S)
        record_property("first_picture_ms", first)
        print(f"first picture of the first visit after {first:.0f} ms")
        browser.open(f"{url}/?again")
        again = browser.wait_for(arrived, TIMEOUT_S)
        record_property("first_picture_again_ms", again)
        print(f"first picture of the second visit after {again:.0f} ms")
        chosen = "document.querySelector('[role=tab][aria-selected=true]').innerText"
        assert browser.evaluate(chosen) == TABS[0]
        size = browser.evaluate("(v => [v.videoWidth, v.controls, v.duration])(document.querySelector('video'))")
        assert size[:2] == [640, True] and size[2] == pytest.approx(2.0, abs=0.2)
        # It moves when it is asked to, and what it says of the ages is there to be read.
        browser.evaluate("document.querySelector('video').muted = true")
        browser.evaluate("document.querySelector('video').currentTime = 1.2")
        browser.evaluate("document.querySelector('video').play().then(() => 0)")
        browser.wait_for("document.querySelector('video').currentTime > 1.4")
        browser.wait_for("document.querySelector('video').textTracks.length === 1")
        browser.evaluate("document.querySelector('video').textTracks[0].mode = 'showing'")
        cue = browser.wait_for("document.querySelector('video').textTracks[0].cues?.[1]?.text")
        assert re.fullmatch(r"mask \d+ to \d+ ms, mask_now \d+ to \d+ ms", cue)
        browser.evaluate("document.querySelector('video').pause()")
        for words in ("With and without propagation", "Score against age", "Confidence of the mask of now"):
            drawn = "[...document.querySelectorAll('img[src^=\"data:\"]')].map(i => atob(i.src.split(',')[1])).join()"
            told = f"(document.body.innerText + {drawn}).includes({json.dumps(words)})"
            browser.wait_for(told, TIMEOUT_S)
        shown = "[...document.querySelectorAll('img')].filter(i => i.offsetParent)"
        browser.wait_for(
            f"{shown}.length > 2 && {shown}.every(i => i.complete && i.naturalWidth > 0 && i.alt)", TIMEOUT_S
        )
        for width in (390, 1280):
            for dark in (False, True):
                browser.resize(width, 900)
                browser.dark(dark)
                time.sleep(1)
                where = f"{width} px, {'dark' if dark else 'light'}"
                assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
                assert browser.barriers() == [], where
        browser.dark(False)
        # With the keyboard from the tabs on: arrows go from tab to tab.
        browser.evaluate("document.querySelector('[role=tab]').focus()")
        browser.press("ArrowRight")
        browser.press("Enter")
        browser.wait_for(f"{chosen} === {json.dumps(TABS[1])}")


def test_glance_shows_what_a_replay_measured(app, replayed):
    page = app(results=[replayed, RESULTS])
    result = json.loads((replayed / "result.json").read_text())
    text = "\n".join(element.value for element in page.markdown)
    for row in (
        f"frames sent | {result['sent']}",
        f"miou_7 at use, mask | {result['streaming']['mask']['miou_7']:.1f} %",
        f"miou_7 at use, mask_now | {result['streaming']['mask_now']['miou_7']:.1f} %",
        f"miou_7 of the frames inferred | {result['accuracy']['miou_7']:.1f} %",
    ):
        assert row in text
    comparison = load_comparison(RESULTS / "comparison.json")
    shown = _html(page)
    for model in comparison.models:
        assert f"{model.name}: ~/mask " in shown
    gain = next(gain for gain in comparison.gains if (gain.model, gain.name) == (0, "miou_7"))
    assert f"~/mask_now {gain.mask_now:.1f} %, offline" in shown
    profile = read_profile(ROOT / "config" / "profiles" / "xeon_amx_2_cores.yaml").values
    assert f"{profile['winner']['candidate']} {profile['winner']['score']:.1f} % at" in shown
    [row] = json.loads((RESULTS / "confidence_now.json").read_text())["rows"]
    assert f"as inferred | {100 * row['as inferred']['ece']:.1f} |" in text
    assert not re.search(r'<img(?![^>]*alt="[^"]+")', shown)


def test_glance_says_which_command_brings_what_is_missing(tmp_path):
    test = AppTest.from_function(_glance, default_timeout=TIMEOUT_S, args=(Results(),)).run()
    assert not test.exception
    said = " ".join(element.value for element in test.info)
    for command in (
        "`make demo`",
        "`seg_node replay --forecast 33`",
        "`make compare`",
        "`make tune`",
        "confidence_now.py",
    ):
        assert command in said
    # What cannot be read is named with its file.
    broken = {name: tmp_path / name for name in ("result.json", "tune.json", "comparison.json")}
    for path in broken.values():
        path.write_text('{"setup": {}}')
    calibration = {"learnt_on": "x", "inference": 170, "rows": [{"drive": "y"}]}
    results = Results(
        replays={"a": broken["result.json"]},
        tunings={"a": broken["tune.json"]},
        comparisons={"a": broken["comparison.json"]},
        calibrations={"confidence.json": calibration},
    )
    test = AppTest.from_function(_glance, default_timeout=TIMEOUT_S, args=(results,)).run()
    assert not test.exception
    said = [element.value for element in test.error]
    assert len(said) == 4 and all(str(path) in "".join(said) for path in broken.values())
    assert any(text.startswith("confidence.json cannot be shown") for text in said)


def test_a_replay_without_a_video_says_how_to_get_one(replayed, tmp_path):
    result = json.loads((replayed / "result.json").read_text())
    # As older versions wrote it.
    del result["ages_at_use"]
    (tmp_path / "result.json").write_text(json.dumps(result))
    results = find_results([tmp_path])
    assert list(results.replays.values()) == [tmp_path / "result.json"]
    test = AppTest.from_function(_glance, default_timeout=TIMEOUT_S, args=(results,)).run()
    assert not test.exception
    assert any("has no as_used.webm" in element.value for element in test.info)


def _glance(results):
    from seg_node.web.dashboard import glance_tab

    glance_tab.show(results)


def test_captions_of_a_hand_worked_case():
    ages = {"frame": [4, 5, 6, 7, 8, 9], "mask_ms": [None, 100.0, 200.0, 300.0, None, None], "mask_now_ms": [None] * 6}
    assert glance_tab.captions(ages, 4.0).split("\n\n") == [
        "WEBVTT",
        "00:00:00.000 --> 00:00:01.000\nmask 100 to 300 ms, mask_now none yet",
        "00:00:01.000 --> 00:00:02.000\nmask none yet, mask_now none yet\n",
    ]


def test_a_tuning_is_shown_with_its_front(tmp_path):
    row = {"low": None, "high": None, "round": 1, "masks_per_s": 9.0, "cpu_cores": 1.0, "rss_mb": 300.0}
    trials = [
        row | {"candidate": f"{name}, {topic}", "topic": topic, "score": score, "age_ms": age}
        for name, topic, score, age in (
            ("fast", "~/mask_now", 60.0, 50.0),
            ("slow", "~/mask_now", 70.0, 200.0),
            ("poor", "~/mask", 40.0, 210.0),
        )
    ]
    drive = {"path": "a", "frames": 9, "width": 8, "height": 6, "rate_hz": 30.0, "truth": "ground truth of /mask"}
    result = {
        "trials": trials,
        "finals": [],
        "screened": [],
        "winner": None,
        "asked": {},
        "why": "no winner",
        "notes": [],
    }
    (tmp_path / "tune.json").write_text(json.dumps(result | {"drive": drive, "machine": {"cpu": "c", "cores": 2}}))
    results = find_results([tmp_path])
    assert list(results.tunings) == [f"{tmp_path.name}/tune.json"]
    test = AppTest.from_function(_glance, default_timeout=TIMEOUT_S, args=(results,)).run()
    assert not test.exception and not test.error
    assert "On the front: fast, ~/mask_now 60.0 % at 50 ms; slow, ~/mask_now 70.0 % at 200 ms." in _html(test)


def test_a_reliability_diagram_says_its_numbers():
    bins = {"confidence": [0.3, 0.9], "right": [0.2, 0.95], "pixels": [10, 90]}
    figure = charts.reliability("camvid", {"as inferred": {"ece": 0.055, "bins": bins}})
    assert figure.numbers == "as inferred: error of calibration 5.5 %."
    assert figure.shows("Calibration on camvid") and figure.shows("as inferred, ECE 5.5 %")


def _fits_a_telephone(browser):
    """No tab is wider than the window, tables that go on say so, nothing is empty above the title, the dark is dark."""
    width = browser.width
    for size in (390, 1024, 1280):
        browser.resize(size, 1000)
        for tab in TABS:
            _open_tab(browser, tab)
            browser.wait_for(
                "[...document.querySelectorAll('table')].filter(t => t.offsetParent).length > 0", TIMEOUT_S
            )
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), (size, tab)
            tables = browser.evaluate(
                "[...document.querySelectorAll('table')].filter(t => t.offsetParent).map(t => ["
                "t.getBoundingClientRect().right <= innerWidth + 1, t.scrollWidth > t.clientWidth + 1,"
                "getComputedStyle(t, '::before').content.includes('scroll')])"
            )
            for inside, goes_on, said in tables:
                assert inside and (said or not goes_on), (size, tab)
            cells = "[...document.querySelectorAll('.stacked td')].filter(c => c.offsetParent)"
            assert browser.barriers() == [], (size, tab)
            edges = browser.evaluate(f"{cells}.map(c => c.getBoundingClientRect().right)")
            assert size > 390 or all(edge <= size for edge in edges), "a question's answer is beyond the edge"
    assert browser.evaluate("document.querySelector('h1').getBoundingClientRect().top + scrollY") < 80
    browser.dark()
    browser.wait_for(
        "getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/g).slice(0, 3)"
        ".every(v => v < 60)"
    )
    browser.dark(False)
    browser.resize(width, 1000)
