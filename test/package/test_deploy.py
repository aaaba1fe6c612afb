"""Container files and the cloud example: what they copy installs, what they start serves, what they ask exists."""

import argparse
import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import yaml
from helpers.paths import ROOT

from seg_node.__main__ import COMMANDS

sys.path.insert(0, str(ROOT / "deploy"))
from check_container import different  # noqa: E402

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")

CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
FOR_THE_NODE = (ROOT / "deploy" / "Containerfile.node").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]


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


def test_both_images_copy_the_same_and_run_as_nobody():
    copied = re.findall(r"^COPY .+$", CONTAINERFILE, re.MULTILINE)
    assert re.findall(r"^COPY .+$", FOR_THE_NODE, re.MULTILINE) == copied
    for text in (CONTAINERFILE, FOR_THE_NODE):
        last = text[text.rindex("\nFROM ") :]
        assert re.search(r"^USER (\d+):\1$", last, re.MULTILINE)[1] != "0"
        # The one folder that is writable where the root file system is not.
        assert re.search(r"^ENV HOME=/tmp\b", last, re.MULTILINE) and "\nHEALTHCHECK " in last


@pytest.mark.parametrize("name", COMPOSE)
def test_services_of_the_compose_file_have_no_more_rights_than_they_need(name):
    service = COMPOSE[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "pid", "volumes"} & set(service)
    assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    # Others reach only what is published, on this machine; there is no authentication.
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", COMPOSE)
def test_services_of_the_compose_file_start_commands_that_exist(name):
    command = [str(word) for word in COMPOSE[name]["command"]]
    if name == "api":
        command = [*COMMAND[3:6], *command]
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command[0]][0]).add_arguments(parser)
    options = parser.parse_args(command[1:])
    if name in ("page", "dashboard"):
        owner = COMPOSE["node" if name == "page" else name]
        assert owner["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]
    if name in ("page", "camera"):
        # Frames go through shared memory only there.
        assert COMPOSE[name]["network_mode"] == COMPOSE[name]["ipc"] == "service:node"
        assert COMPOSE["node"]["ipc"] == "shareable"


def test_check_of_a_container_counts_the_pixels_that_differ(tmp_path):
    """Against a server whose mask is right but for one pixel, and a bag that has masks for two of three frames."""
    truth = np.arange(12, dtype=np.uint8).reshape(3, 4)
    answers = iter([truth, np.where(truth == 5, 0, truth)])
    frames = [SimpleNamespace(stamp=stamp, image=SimpleNamespace(data=b"jpeg")) for stamp in (1, 2, 3)]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(cv2.imencode(".png", next(answers))[1].tobytes())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        drive = SimpleNamespace(frames=frames, masks={1: truth, 3: truth})
        with mock.patch("check_container.open_drive", return_value=drive):
            found = different(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
    assert found == [0, 1]


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
