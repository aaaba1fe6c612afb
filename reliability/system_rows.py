"""Bad days of everything around the node: processes, network, clock, disk and processor."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rclpy
from rclpy.context import Context
from rows import Seen, Skipped, Stage, fault
from scene import NODE, Camera, Scene, Script, environment, wait
from sensor_msgs.msg import Image

from seg_node.rig.monitor_process import MonitorProcess

_RESTART_S = 3.0
"""Longest time from the restart of a camera, or of a node besides its own start, to the next mask."""


@fault("camera killed and restarted", "masks within 3 s of its first frame that the middleware has a way for")
def camera_killed(stage: Stage) -> Seen:
    """By SIGKILL, in mid-stream."""
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        camera.kill()
        time.sleep(1.0)
        # How long it takes to start a camera is not the node's affair, nor is how long the middleware takes to make it
        # known: it announces itself every 3 s, and on a busy machine the first announcements may be lost.
        restarted = scene.start_camera()
        known = restarted.heard()
        again = scene.mask_after(known.at - 1)
        checks = {"within 3 s": again < _RESTART_S}
        found = (known.at - restarted.sent[0].at) / 1e9
        return Seen([f"found by the middleware after {found:.2f} s, then masked"], checks, [scene.balance()], again)


@fault("node killed and restarted in mid-stream", "masks within 3 s of its restart, plus its start")
def node_killed(stage: Stage) -> Seen:
    """By SIGKILL, with a frame in work perhaps: that one goes with the process."""
    with stage.scene() as scene:
        node = scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        os.kill(node.pid, signal.SIGKILL)
        wait(lambda: node.exit_code is not None, "the node is gone")
        # What it had published is under way for a moment.
        time.sleep(1.0)
        scene.end_of_life(killed=True)
        restarted = time.monotonic_ns()
        scene.start_node(stage.one)
        start = (time.monotonic_ns() - restarted) / 1e9
        again = scene.mask_after(restarted)
        unseen = scene.found()
        scene.mask_after(time.monotonic_ns())
        first = next(record for record in scene.observer.records() if record["at"] > restarted)
        early = sum(sent.at > restarted and sent.stamp < first["stamp"] for sent in camera.sent)
        checks = {
            f"within 3 s plus its start of {start:.1f} s": again < start + _RESTART_S,
            "unseen only until the first record": 0 <= unseen <= early,
        }
        facts = [f"its start alone took {start:.1f} s", f"{unseen} frames recorded before the observer had found it"]
        return Seen(facts, checks, [scene.balance()], again)


@fault("participants that come and go", "masks go on")
def churn(stage: Stage) -> Seen:
    """Each discovers everybody, subscribes to the masks and leaves."""
    times = stage.times(30, 3)
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        began = time.monotonic_ns()
        for number in range(times):
            context = Context()
            rclpy.init(args=[], context=context)
            node = rclpy.create_node(f"guest_{os.getpid()}_{number}", context=context)
            node.create_subscription(Image, f"{NODE}/mask", lambda _: None, 1)
            context.shutdown()
        again = scene.mask_after(time.monotonic_ns())
        gap = _longest_gap(scene, began)
        return Seen([f"{times} came and went", f"longest gap {gap:.2f} s"], {}, [scene.balance()], again)


@fault("a subscriber of the masks that stands still, then vanishes", "masks go on for the others")
def slow_subscriber(stage: Stage) -> Seen:
    """By SIGSTOP, then SIGKILL."""
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        with contextlib.suppress(OSError), MonitorProcess(NODE, None, stage.folder, environment()) as subscriber:
            wait(lambda: subscriber.seen.masks, "the subscriber gets masks")
            began = time.monotonic_ns()
            os.kill(subscriber.pid, signal.SIGSTOP)
            still_until = began + stage.times(10, 2) * 10**9
            while time.monotonic_ns() < still_until:
                scene.mask_after(time.monotonic_ns())
            os.kill(subscriber.pid, signal.SIGKILL)
            again = scene.mask_after(time.monotonic_ns())
        gap = _longest_gap(scene, began)
        return Seen([f"longest gap {gap:.2f} s"], {}, [scene.balance()], again)


@fault("use_sim_time with a bag that starts again and again", "masks in every loop, the jumps back are counted")
def looping_bag(stage: Stage) -> Seen:
    """The camera's stamps and /clock begin again every 2 s."""
    loops = stage.times(5, 2)
    with stage.scene() as scene:
        scene.start_node(stage.one, use_sim_time=True, max_age_ms=1000.0)
        camera = scene.start_camera("--clock", "--loop", "2")
        checks = {}
        for number in range(loops):
            checks[f"masks in loop {number + 1}"] = scene.mask_after(time.monotonic_ns()) > 0
            turns = _turns(camera)
            wait(lambda t=turns: _turns(camera) > t, "the bag starts again")
        again = scene.mask_after(time.monotonic_ns())
        books = scene.balance()
        counted = int(scene.observer.reports()[-1]["values"]["camera.backward_stamp"])
        checks["counted the jumps back"] = counted >= loops
        facts = [f"{counted} jumps back counted", f"{books.outcomes.get('stale', 0)} stale frames at them"]
        return Seen(facts, checks, [books], again)


@fault("clock that jumps an hour ahead, then two back", "masks go on")
def clock_jump(stage: Stage) -> Seen:
    """Of the simulated clock and the camera's stamps alike."""
    with stage.scene() as scene:
        scene.start_node(stage.one, use_sim_time=True, max_age_ms=1000.0)
        camera = scene.start_camera("--clock")
        scene.mask_after(camera.sent[0].at)
        slowest = 0.0
        for jump in (3600.0, -7200.0):
            moment, turns = time.monotonic_ns(), _turns(camera, abs(jump) / 2)
            camera.command(jump=jump)
            wait(lambda t=turns, j=jump: _turns(camera, abs(j) / 2) != t, "the clock jumps")
            slowest = max(slowest, scene.mask_after(moment))
            slowest = max(slowest, scene.mask_after(time.monotonic_ns()))
        books = scene.balance()
        backward = int(scene.observer.reports()[-1]["values"]["camera.backward_stamp"])
        facts = [f"{backward} jump back counted", f"{books.outcomes.get('stale', 0)} stale frames at them"]
        return Seen(facts, {"counted the jump back": backward >= 1}, [books], slowest)


@fault("full disk while the harness writes", "the harness names the file and ends with an error; the node goes on")
def full_disk(stage: Stage) -> Seen:
    """The harness replays the shipped drive into the node and writes results to a file system of 64 KiB."""
    disk = stage.folder / "disk"
    with _small_file_system(disk), stage.scene() as scene:
        node = scene.start_node(stage.one, image_transport="compressed")
        options = ["--attach", NODE, "--out", str(disk / "out"), "--frames", "60", "--rate", "30"]
        done = subprocess.run(
            [sys.executable, "-m", "seg_node", "replay", *options],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        (stage.folder / "replay.log").write_text(done.stdout + done.stderr)
        said = next((line for line in reversed(done.stderr.splitlines()) if "No space left" in line), "nothing of it")
        node.check()
        scene.settle()
        records, masks = len(scene.observer.records()), len(scene.observer.masks())
        received = int(scene.observer.reports()[-1]["values"]["received"])
        checks = {
            "ended with an error": done.returncode not in (0, None),
            "named the file": str(disk) in said,
            "without a traceback": "Traceback" not in done.stderr,
            "the node recorded every frame": received == records and masks > 0,
        }
        return Seen([said.replace(f"{stage.folder}/", "")], checks, [])


@fault("processor hogged by others", "masks go on, however late")
def hog(stage: Stage) -> Seen:
    """Twice as many busy processes as there are processors."""
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        began = time.monotonic_ns()
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
        try:
            until = began + stage.times(10, 2) * 10**9
            while time.monotonic_ns() < until:
                again = scene.mask_after(time.monotonic_ns())
        finally:
            for process in busy:
                process.kill()
                process.wait()
        gap = _longest_gap(scene, began)
        return Seen([f"{len(busy)} busy processes", f"longest gap {gap:.2f} s"], {}, [scene.balance()], again)


@fault("20 nodes on one domain", "each masks the camera, each with books of its own")
def crowd(stage: Stage) -> Seen:
    """All on one camera's topic."""
    names = [f"/chaos/crowd{number}/segmentation" for number in range(stage.times(20, 3))]
    with stage.scene(names) as scene:
        for name in names:
            scene.start_node(stage.one, name)
        camera = scene.start_camera(rate=5.0)
        began = camera.sent[0].at
        slowest = max(scene.mask_after(began, name) for name in names)
        moment = time.monotonic_ns()
        again = max(scene.mask_after(moment, name) for name in names)
        books = [scene.balance(name) for name in names]
        return Seen([f"{len(names)} nodes, the first mask of the last one after {slowest:.2f} s"], {}, books, again)


@fault(
    "5 % loss and 30 ms delay between camera and node, then no link for 3 s",
    "masks go on, and come again with the link",
)
def network(stage: Stage) -> Seen:
    """Camera and node in network namespaces of their own, over UDP."""
    changes = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "FASTRTPS_DEFAULT_PROFILES_FILE": "",
        "FASTDDS_DEFAULT_PROFILES_FILE": "",
    }
    with _bad_link(stage.folder) as (near, far, link):
        with stage.scene(prefix=["ip", "netns", "exec", near], changes=changes) as scene:
            scene.start_node(stage.one)
            camera = scene.start_camera(prefix=["ip", "netns", "exec", far])
            first = scene.mask_after(camera.sent[0].at)
            until = time.monotonic_ns() + stage.times(10, 2) * 10**9
            while time.monotonic_ns() < until:
                scene.mask_after(time.monotonic_ns())
            link.tell("down")
            time.sleep(3.0)
            mended = time.monotonic_ns()
            link.tell("up")
            again = scene.mask_after(mended)
            books = scene.balance()
        return Seen(
            [f"first mask after {first:.2f} s", f"{books.lost} of {books.sent} frames lost"], {}, [books], again
        )


def _longest_gap(scene: Scene, since: int) -> float:
    """Seconds between two masks that followed each other."""
    arrivals = [mask["at"] for mask in scene.observer.masks() if mask["at"] > since]
    return max((b - a for a, b in itertools.pairwise(arrivals)), default=0) / 1e9


def _turns(camera: Camera, least_s: float = 0.0) -> int:
    """How often the stamps of a camera jumped by more than ``least_s``; without it, how often they went back."""
    pairs = list(itertools.pairwise(sent.stamp for sent in camera.sent))
    return sum(abs(b - a) > least_s * 1e9 if least_s else b < a for a, b in pairs)


@contextlib.contextmanager
def _small_file_system(path: Path) -> Iterator[None]:
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        raise Skipped("only root can mount a small file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@contextlib.contextmanager
def _bad_link(folder: Path) -> Iterator[tuple[str, str, Script]]:
    """Names of two network namespaces, and the link between them: ``bad_link.py``."""
    near, far = (f"chaos{os.getpid() % 100000}{end}" for end in "nf")
    if os.geteuid() or not shutil.which("ip"):
        raise Skipped("network namespaces need root and ip")
    log = folder / "bad_link.log"
    link = Script(["bad_link.py", near, far], log)
    try:
        wait(lambda: log.read_text().strip() or link.ended, "the link is there")
        if "ready" not in log.read_text():
            raise Skipped(f"no network namespaces here: {log.read_text().strip()[-200:]}")
        yield near, far, link
    finally:
        link.close()
