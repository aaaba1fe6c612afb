"""Headless Chromium for tests, driven by its DevTools protocol over a pipe: no driver, no library, no download.

https://chromedevtools.github.io/devtools-protocol/ documents the methods.
"""

import base64
import importlib.util
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


_CUT = """[...document.body.querySelectorAll('*')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !element.closest('.scroll');
}).map(element => element.outerHTML.slice(0, 80))"""

_DIM = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = parts(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > .99) return colour;
    }
    return [255, 255, 255];
  };
  const dim = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest('svg, script')) continue;
    const [less, more] = [parts(getComputedStyle(element).color), ground(element)].map(light).sort((x, y) => x - y);
    const contrast = (more + .05) / (less + .05);
    if (contrast < 4.5) dim.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(1)}`);
  }
  return dim;
})()"""


_GRAVE = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations
  .filter(violation => ['serious', 'critical'].includes(violation.impact))
  .map(rule => `${rule.id}: ${rule.nodes.slice(0, 3).map(node => node.html.slice(0, 120)).join(' ')}`))"""


def axe_core() -> Path | None:
    """Script of axe-core, which a library for another driver brings; None where it is not installed."""
    found = importlib.util.find_spec("axe_playwright_python")
    return Path(found.submodule_search_locations[0], "axe.min.js") if found else None


def find_chromium() -> str:
    """Path of the browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or pytest.skip("Chromium is missing: apt-get install chromium")


class Browser:
    """One page in a browser of its own; a context manager.

    Args:
        url: to open.
        width: of the window, in CSS pixels.
        height: of the window.
    """

    def __init__(self, url: str, width: int = 1200, height: int = 800):
        self._url, self._size = url, (width, height)
        self._ids = itertools.count(1)
        self._read = b""

    def __enter__(self) -> "Browser":
        self._folder = tempfile.TemporaryDirectory(prefix="browser_", ignore_cleanup_errors=True)
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        arguments = [
            *(
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ),
            # In a container, where the sandbox cannot work, the pages are our own.
            "--no-sandbox",
            f"--user-data-dir={self._folder.name}",
            f"--window-size={self._size[0]},{self._size[1]}",
            "about:blank",
        ]
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, find_chromium(), *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.resize(*self._size)
        self.open(self._url)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is complete."""
        self._call("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def cut(self) -> list[str]:
        """Elements that go beyond the window's right edge; tables may do so within themselves (``.scroll``)."""
        page = "document.documentElement.scrollWidth > innerWidth ? ['the page'] : []"
        return self.evaluate(page) + self.evaluate(_CUT)

    def dim(self) -> list[str]:
        """Text whose contrast to what is behind it is below the 4.5 that WCAG 2 asks for."""
        return self.evaluate(_DIM)

    def barriers(self) -> list[str]:
        """What axe-core finds serious or critical for who cannot see, or has no mouse; nothing where it is missing."""
        if (script := axe_core()) is None:
            return []
        # Its own value is an object that cannot be told.
        self.evaluate(f"{script.read_text()};0")
        return self.evaluate(_GRAVE)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 120.0) -> Any:
        """Wait until an expression is true; returns its value."""
        deadline = time.monotonic() + timeout
        while not (value := self._evaluate_once(expression)):
            assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {expression}"
            time.sleep(0.1)
        return value

    def _evaluate_once(self, expression: str) -> Any:
        """The same, but None where the page was left for another one meanwhile."""
        try:
            return self.evaluate(expression)
        except AssertionError as error:
            if "navigated" not in str(error):
                raise
            return None

    @property
    def width(self) -> int:
        """Of the window, in CSS pixels."""
        return self._size[0]

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in CSS pixels."""
        self._size = width, height
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def dark(self, on: bool = True) -> None:
        """Ask the page for its dark colours, or for its light ones."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def upload(self, selector: str, path: os.PathLike | str) -> None:
        """Choose a file in the file input that a CSS selector finds."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[os.fspath(path)])

    def press(self, key: str) -> None:
        """Press and release a key, named as ``KeyboardEvent.key`` has it, on what has the focus."""
        codes = {"Enter": 13, "Tab": 9, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if (kind, key) == ("keyDown", "Enter") else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def screenshot(self, quality: int = 80) -> bytes:
        """The window as a JPEG."""
        answer = self._call("Page.captureScreenshot", format="jpeg", quality=quality)
        return base64.b64decode(answer["data"])

    def _call(self, method: str, timeout: float = 120.0, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        """The next message; those between are events, which nobody asked for."""
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0.0))
            assert ready, f"the browser does not answer {method}"
            data = os.read(self._from, 2**16)
            assert data, f"the browser ended at {method}"
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)
