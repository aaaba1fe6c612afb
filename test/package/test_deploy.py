"""The container file and the cloud example: what they copy installs, what they start serves, what they ask exists."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
import yaml
from helpers.paths import ROOT

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")

CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()


def _words(instruction):
    return json.loads(re.search(rf"^{instruction} (.+)", CONTAINERFILE, re.MULTILINE)[1])


COMMAND = [*_words("ENTRYPOINT"), *_words("CMD")]


def test_container_file_installs_and_serves_what_it_copies(tmp_path):
    source, prefix = tmp_path / "source", tmp_path / "prefix"
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE):
        for name in copied.split():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    # What else it would install is here already; the rest must come out of what was copied.
    # Without --ignore-installed, pip would take the package out of the environment that runs these tests.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed", "--prefix", str(prefix)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "."], cwd=source, check=True)
    (modules,) = prefix.glob("**/site-packages")
    command = [sys.executable, *COMMAND[1:]]
    command[command.index("--port") + 1] = "0"
    environment = os.environ | {"PYTHONPATH": str(modules)}
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().split()[2].rstrip(",").replace("0.0.0.0", "127.0.0.1")
        deadline = time.monotonic() + 120
        while not _ready(url):
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.2)
        image = cv2.imencode(".jpg", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()
        request = urllib.request.Request(f"{url}/v1/segment", image, {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            mask = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (48, 64)
    finally:
        server.terminate()
        assert server.wait(60) == 0


def _ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def test_cloud_example_asks_what_the_container_answers():
    service = yaml.safe_load((ROOT / "deploy" / "cloud_run.yaml").read_text())
    (container,) = service["spec"]["template"]["spec"]["containers"]
    port = container["ports"][0]["containerPort"]
    assert COMMAND[COMMAND.index("--port") + 1] == str(port)
    assert f"\nEXPOSE {port}\n" in CONTAINERFILE
    sources = [file.read_text() for file in (ROOT / "seg_node" / "web" / "api").glob("**/*.py")]
    routes = [route for source in sources for route in re.findall(r'@\w+\.get\(\s*"(.+?)"', source)]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in routes


def test_unit_file_starts_the_node_that_tells_systemd():
    text = (ROOT / "deploy" / "seg_node.service").read_text()
    # Environment stands there twice, as systemd has it.
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"], service["KillSignal"]) == ("notify", "main", "SIGINT")
    assert int(service["WatchdogSec"]) > 0 and service["Restart"] == "always"
    assert re.search(r"exec \S+/lib/seg_node/segmentation --ros-args", service["ExecStart"]), "exec keeps the process"
    parameters = (ROOT / "docs" / "node.md").read_text()
    for name in re.findall(r"-p (\w+):=", service["ExecStart"]):
        assert f"| `{name}` |" in parameters
    if analyse := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyse, "verify", str(ROOT / "deploy" / "seg_node.service")], capture_output=True, text=True
        )
        assert "Unknown" not in done.stderr, done.stderr
