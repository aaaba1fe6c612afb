"""Take the pictures of README and docs anew: ``make pictures``. Needs Chromium.

    python docs/make_pictures.py                       # all of them
    python docs/make_pictures.py view api              # these
    python docs/make_pictures.py drive --video FILE    # two frames of a video beside their masks
    python docs/make_pictures.py moving --video FILE   # some seconds of it: camera, mask, mask of now

Latencies in the pictures are those of the machine at that moment: take them while nothing else runs. ``comparison``
shows ``compare_output/comparison.json``, or without it ``docs/results/comparison.json``, which has no worst frames.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
# Run as a script, this file finds its own folder only.
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "test")]

from helpers.browser import Browser  # noqa: E402
from late_masks import Late, late_masks  # noqa: E402

from seg_node.bags.drive import Drive, open_drive  # noqa: E402
from seg_node.bags.from_video import from_video  # noqa: E402
from seg_node.bags.images import decode  # noqa: E402
from seg_node.compare.report import contact_sheet  # noqa: E402
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.overlay import paint  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB  # noqa: E402
from seg_node.rig.frames import ArrivedMask  # noqa: E402

_MOST_BYTES = 150_000
_TIMEOUT_S = 300.0
_SETTLED_S = 30.0
"""That the live page runs before its picture is taken: its figures are of so many seconds."""
_TALLEST = 3200
"""Height of a picture in pixels."""
_MOVING_S = (2.0, 8.0)
"""Piece of the video that moves, in seconds."""
_MOVING_WIDTH = 420
"""Width of each of its three panels, in pixels."""
_MOVING_BYTES = 3_000_000
_MASKS_PER_S = 5.0
"""Inferred masks per second in it: a node on a small computer. What lies between them is skipped."""
_EVERY = 2
"""Frames of the camera for one of the moving picture."""


@contextlib.contextmanager
def _process(*arguments: str, says: str) -> Iterator[str]:
    """Run ``python -m seg_node ARGUMENTS`` and give the address that it prints behind ``says``."""
    command = [sys.executable, "-u", "-m", "seg_node", *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = next((line for line in process.stdout if says in line), None)
        if line is None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
        yield line.split(says)[1].split()[0].rstrip(";,")
    finally:
        process.terminate()
        process.wait(60)


def _whole(browser: Browser, height: int) -> None:
    """Make the window as high as what it shows."""
    browser.resize(browser.width, min(height + 8, _TALLEST))
    # Pages lay themselves out anew.
    time.sleep(2)


def _save(name: str, browser: Browser) -> Path:
    """Take a picture, in the best quality that its file may have."""
    for quality in (85, 75, 65, 55, 45, 35):
        data = browser.screenshot(quality)
        if len(data) <= _MOST_BYTES:
            break
    path = DOCS / f"{name}.jpg"
    path.write_bytes(data)
    return path


def take_view() -> list[Path]:
    """The live page."""
    with (
        _process("view", "--no-browser", "--port", "0", says=" is shown at ") as address,
        Browser(address, 1200, 800) as browser,
    ):
        browser.wait_for("Number(document.getElementById('picture').dataset.number || 0) > 3", _TIMEOUT_S)
        time.sleep(_SETTLED_S)
        _whole(browser, browser.evaluate("document.documentElement.scrollHeight"))
        return [_save("view", browser)]


_SEGMENT = "document.getElementById('operations-masks-segment_v1_segment_post')"
"""The route that masks an image, on the page of the API's documentation."""


def overlay_in_the_docs(browser: Browser, image: Path) -> None:
    """On the page of the API's documentation: try ``/v1/segment`` out with a file, and wait for its overlay."""
    browser.wait_for(f"!!{_SEGMENT}?.querySelector('.opblock-summary-control')", _TIMEOUT_S)
    browser.evaluate(f"{_SEGMENT}.querySelector('.opblock-summary-control').click()")
    browser.wait_for(f"!!{_SEGMENT}.querySelector('.try-out__btn')", _TIMEOUT_S)
    browser.evaluate(f"{_SEGMENT}.querySelector('.try-out__btn').click()")
    browser.wait_for(f"!!{_SEGMENT}.querySelector('input[type=file]')", _TIMEOUT_S)
    browser.upload("#operations-masks-segment_v1_segment_post input[type=file]", image)
    # React listens to the event, not to the value.
    browser.evaluate(
        f"(box => {{ box.value = 'true'; box.dispatchEvent(new Event('change', {{bubbles: true}})) }})"
        f"({_SEGMENT}.querySelector('tr[data-param-name=overlay] select'))"
    )
    browser.evaluate(f"{_SEGMENT}.querySelector('.execute').click()")
    browser.wait_for(f"{_SEGMENT}.querySelector('.live-responses-table img')?.naturalWidth > 0", _TIMEOUT_S)


def take_api() -> list[Path]:
    """The API's documentation: all routes, and the one that masks an image with an answer."""
    frame = open_drive(REPOSITORY / "rosbags" / "synthetic_drive", duration=5.0).frames[-1]
    with (
        tempfile.TemporaryDirectory() as folder,
        _process("serve", "--port", "0", says="listening on ") as address,
        Browser(f"{address}/docs", 1100, 900) as browser,
    ):
        browser.wait_for("document.querySelectorAll('.opblock').length > 8", _TIMEOUT_S)
        end = "document.querySelector('.swagger-ui').getBoundingClientRect()"
        schemas = "document.querySelector('section.models')?.getBoundingClientRect()"
        _whole(browser, browser.evaluate(f"Math.ceil(({schemas}?.top ?? {end}.bottom) + scrollY)"))
        taken = [_save("api", browser)]
        image = Path(folder, "road.jpg")
        image.write_bytes(frame.image.data.tobytes())
        overlay_in_the_docs(browser, image)
        browser.evaluate(f"{_SEGMENT}.scrollIntoView()")
        bottom = f"{_SEGMENT}.querySelector('.live-responses-table img').getBoundingClientRect().bottom"
        _whole(browser, browser.evaluate(f"Math.ceil({bottom})"))
        browser.evaluate(f"{_SEGMENT}.scrollIntoView()")
        return [*taken, _save("api_answer", browser)]


def take_dashboard() -> list[Path]:
    """A picture of each tab."""
    with _dashboard() as address, Browser(address, 1024, 1500) as browser:
        browser.wait_for("document.querySelectorAll('[role=tab]').length === 4", _TIMEOUT_S)
        taken = []
        # Those that are hidden have no height, or are not there at all.
        panels = "[...document.querySelectorAll('[role=tabpanel]')].map(p => p.getBoundingClientRect())"
        for number, (name, shows) in enumerate(
            (
                ("glance", "How sure it is"),
                ("image", "This image against its true mask"),
                ("training", "Studies"),
                ("comparison", "The questions"),
            )
        ):
            browser.evaluate(f"document.querySelectorAll('[role=tab]')[{number}].click()")
            browser.wait_for(f"document.body.innerText.includes('{shows}')", _TIMEOUT_S)
            time.sleep(3)
            _whole(browser, browser.evaluate(f"Math.ceil(Math.max(...{panels}.map(p => p.bottom)))"))
            taken.append(_save(f"dashboard_{name}", browser))
            browser.resize(1024, 1500)
        return taken


@contextlib.contextmanager
def _dashboard() -> Iterator[str]:
    """Streamlit prints its address before it listens."""
    port = 18501
    found = [name for name in ("demo_output", "docs/results") if (REPOSITORY / name).is_dir()]
    command = [sys.executable, "-m", "seg_node", "dashboard", "--port", str(port)]
    command += [part for name in found for part in ("--results", name)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _TIMEOUT_S
    try:
        while True:
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{address}/_stcore/health"):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not answer")
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def take_comparison() -> list[Path]:
    """The page that a comparison writes."""
    found = [REPOSITORY / "compare_output" / "comparison.json", DOCS / "results" / "comparison.json"]
    source = next(path for path in found if path.exists())
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "seg_node", "compare", "--from", str(source), "--out", folder]
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        with Browser(f"file://{folder}/comparison.html", 944, 900) as browser:
            _whole(browser, browser.evaluate("document.documentElement.scrollHeight"))
            return [_save("comparison", browser)]


def take_drive(video: Path | None) -> list[Path]:
    """Two frames of a video beside their masks."""
    if video is None:
        print("masked_drive.jpg is left as it is: give --video")
        return []
    with tempfile.TemporaryDirectory() as folder:
        from_video(video, Path(folder, "drive"))
        drive = open_drive(Path(folder, "drive"))
        engine = create_engine(load_bundle(DEFAULT_MODEL))
        masks = {}
        for place in (0.2, 0.5):
            frame = drive.frames[int(place * len(drive.frames))]
            mask = engine.infer(decode(frame))[0]
            masks[frame.stamp] = ArrivedMask(0, mask.shape, zlib.compress(mask.tobytes()))
        sheet = contact_sheet(drive, masks, 2)
    path = DOCS / "masked_drive.jpg"
    cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return [path]


def take_moving(video: Path | None) -> list[Path]:
    """A piece of a video: camera, newest inferred mask and mask of now, each over the frame at which it is at hand."""
    if video is None:
        print("masked_drive.webp is left as it is: give --video")
        return []
    with tempfile.TemporaryDirectory() as folder:
        from_video(video, Path(folder, "drive"))
        start, end = _MOVING_S
        drive = open_drive(Path(folder, "drive"), start=start, duration=end - start)
    engine = create_engine(load_bundle(DEFAULT_MODEL))
    periods = max(1, round(drive.rate / _MASKS_PER_S))
    shown = late_masks(drive.frames, lambda image: engine.infer(image)[0].copy(), periods)
    pictures = [Image.fromarray(_panels(drive, late)[..., ::-1]) for late in shown if late.frame % _EVERY == 0]
    path = DOCS / "masked_drive.webp"
    first, *rest = pictures
    milliseconds = round(1000 * _EVERY / drive.rate)
    for quality in (70, 60, 50, 40, 30):
        first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=quality, method=6)
        if path.stat().st_size <= _MOVING_BYTES:
            break
    return [path]


def _panels(drive: Drive, late: Late) -> np.ndarray:
    """One picture of the moving one, uint8 [H, W, 3] BGR."""
    age = (drive.frames[late.frame].stamp - drive.frames[late.inferred].stamp) / 1e6
    texts = ("camera", f"mask: of {age:.0f} ms ago", "mask_now: the same, carried to now")
    images = (late.image, paint(late.image, late.mask), paint(late.image, late.now))
    columns = []
    for text, image in zip(texts, images, strict=True):
        height = round(image.shape[0] * _MOVING_WIDTH / image.shape[1])
        title = np.full((26, _MOVING_WIDTH, 3), 255, np.uint8)
        cv2.putText(title, text, (5, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([title, cv2.resize(image, (_MOVING_WIDTH, height), interpolation=cv2.INTER_AREA)]))
    row = np.hstack(columns)
    legend = np.full((26, row.shape[1], 3), 255, np.uint8)
    for place, (name, colour) in enumerate(zip(CATEGORY_NAMES, PALETTE_RGB.tolist(), strict=True)):
        left = 5 + place * row.shape[1] // len(CATEGORY_NAMES)
        cv2.rectangle(legend, (left, 6), (left + 14, 20), colour[::-1], cv2.FILLED)
        cv2.putText(legend, name, (left + 19, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([row, legend])


def take_projection() -> list[Path]:
    """A frame, its cloud from above, and grids of the ground."""
    # Only here: made-up drives need what training needs.
    from projection_picture import projection_picture

    path = DOCS / "projection.jpg"
    cv2.imwrite(str(path), projection_picture(), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return [path]


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    takers: dict[str, Callable[[], list[Path]]] = {
        "view": take_view,
        "api": take_api,
        "dashboard": take_dashboard,
        "comparison": take_comparison,
        "drive": lambda: take_drive(options.video),
        "moving": lambda: take_moving(options.video),
        "projection": take_projection,
    }
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"{', '.join(takers)} (default: all)")
    parser.add_argument("--video", type=Path, help="for drive and moving: any video that OpenCV reads")
    options = parser.parse_args()
    if unknown := [name for name in options.which if name not in takers]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(takers)}")
    for name in options.which or takers:
        for path in takers[name]():
            print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
