"""Report of a replay and page of a comparison in a browser: on a telephone, on a desk, and in the dark."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.browser import Browser, axe_core, find_chromium  # noqa: E402
from helpers.paths import ROOT  # noqa: E402

from seg_node.compare import report  # noqa: E402
from seg_node.core.metrics import scores  # noqa: E402
from seg_node.rig.scoring import Distribution, Result  # noqa: E402


def distribution(p50):
    return Distribution(count=12, p50=p50, p95=1.2 * p50, p99=1.3 * p50, max=1.4 * p50)


@pytest.fixture(scope="module")
def result():
    stages = {name: distribution(ms) for name, ms in (("wait", 14.0), ("inference", 150.0), ("total", 172.0))}
    confusion = np.eye(8, dtype=np.int64) * 90 + 1
    return Result(
        setup={
            "drive": "/somewhere/of/somebody/my_drive",
            "frames": 221,
            "height": 360,
            "width": 640,
            "transport": "compressed",
            "rate": "recorded",
            "rate_hz": 30.0,
            "model": "fpn_resnet50",
            "engine": "openvino",
        },
        sent=223,
        received=221,
        lost=2,
        masked=12,
        dropped={"superseded": 206, "stale": 3, "undecodable": 0, "failed": 0},
        masks_arrived=12,
        late=0,
        faults=[],
        camera_to_mask=distribution(175.0),
        stages=stages,
        accuracy={**scores(confusion), "frames": 12},
        masks_per_second=5.5,
        jitter=11.0,
        usage={"cpu_cores": 1.7, "idle_cpu_cores": 0.2, "rss_peak_bytes": 4e8},
        machine={"cpu": "AMD EPYC", "cores": 2},
    )


def test_a_report_says_why_frames_have_no_mask_and_what_to_do(result):
    said = report.reading(result)
    assert said[0] == "12 of the 221 frames that reached the node were masked."
    assert said[1].startswith("206 were superseded: one frame takes 172 ms in the node (median), and a new one came")
    assert "every 33 ms" in said[1] and "seg_node label DRIVE --out FOLDER" in said[1]
    assert any("3 were older than max_age_ms" in line for line in said)
    assert any("2 of 223 frames that were sent never reached the node" in line for line in said)


def test_what_a_report_advises_exists():
    from seg_node.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["label", "--help"])
    assert ended.value.code == 0
    assert re.fullmatch(r"seg_node label DRIVE --out FOLDER", report._LABEL)


@pytest.fixture(scope="module")
def pages(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    sheet = np.full((300, 1260, 3), 128, np.uint8)
    cv2.imwrite(str(folder / "contact_sheet.png"), sheet)
    (folder / "overlay.mp4").write_bytes(b"")
    files = [folder / "contact_sheet.png", folder / "overlay.mp4"]
    (folder / "report.html").write_text(report.to_html(result, sheet, files))
    pytest.importorskip("matplotlib")
    from seg_node.compare.comparison import load_comparison
    from seg_node.compare.page import to_html

    comparison = load_comparison(ROOT / "docs" / "results" / "comparison.json")
    (folder / "comparison.html").write_text(to_html(comparison))
    models = [replace(model, name=f"{model.name}_after_the_night_in_the_garage") for model in comparison.models]
    (folder / "long_names.html").write_text(to_html(replace(comparison, models=models)))
    return folder


@pytest.fixture(scope="module")
def browser(pages):
    find_chromium()
    with Browser((pages / "report.html").as_uri(), 390, 844) as opened:
        yield opened


def test_axe_finds_what_is_a_barrier(tmp_path):
    find_chromium()
    if axe_core() is None:
        pytest.skip("axe-playwright-python is missing, which brings axe-core: no page is looked at for barriers")
    page = tmp_path / "page.html"
    page.write_text("<html lang=en><title>a</title><main><h1>a</h1><img src=a.png></main>")
    with Browser(page.as_uri()) as opened:
        [found] = opened.barriers()
        assert found.startswith("image-alt: <img src=")


@pytest.mark.parametrize("page", ["report.html", "comparison.html", "long_names.html"])
def test_pages_fit_a_telephone_and_a_desk_by_day_and_night(browser, pages, page):
    for width in (390, 1280):
        for dark in (False, True):
            browser.resize(width, 844)
            browser.dark(dark)
            browser.open((pages / page).as_uri())
            where = f"{page} at {width} px, {'dark' if dark else 'light'}"
            assert browser.cut() == [], where
            assert browser.dim() == [], where
            assert browser.barriers() == [], where
            ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark, where
            # Each table that goes on beyond the edge says so, and no other does.
            hinted = browser.evaluate(
                "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth > b.clientWidth + 1,"
                " getComputedStyle(b, '::before').content.includes('scroll')])"
            )
            assert all(wider == said for wider, said in hinted), where
            if page == "comparison.html" and width == 390:
                assert any(wider for wider, _ in hinted), "the table of the rates"


def test_a_telephone_shows_every_column_of_the_questions_with_its_name(browser, pages):
    browser.dark(False)
    columns = {}
    for width in (390, 1280):
        browser.resize(width, 844)
        browser.open((pages / "comparison.html").as_uri())
        cells = "[...document.querySelectorAll('.stacked td')]"
        edges = browser.evaluate(f"{cells}.map(c => c.getBoundingClientRect()).map(b => [b.left, b.right])")
        assert edges and all(0 <= left < right <= width for left, right in edges)
        names = browser.evaluate(f"{cells}.map(c => getComputedStyle(c, '::before').content)")
        columns[width] = {name.strip('"') for name in names}
    header = browser.evaluate("[...document.querySelectorAll('.stacked th')].map(c => c.innerText)")
    assert "better" in header and len(header) >= 4
    assert columns == {390: set(header) - {""} | {"none"}, 1280: {"none"}}


def test_a_report_links_to_what_was_written(browser, pages):
    browser.resize(1280, 844)
    browser.open((pages / "report.html").as_uri())
    links = browser.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
    assert links == [(pages / name).as_uri() for name in ("contact_sheet.png", "overlay.mp4")]
    text = browser.evaluate("document.body.innerText")
    assert "/somewhere" not in text and "my_drive" in text, "the drive by its name"
    assert text.index("vehicle") < text.index("Latency, milliseconds"), "the legend comes first"
    for unit in ("masks/s", "jitter ms", "CPU cores", "idle cores", "memory MiB", "percent", "milliseconds"):
        assert unit in text
