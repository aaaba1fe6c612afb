"""A camera as a process: noise at a fixed rate, with a line in a file for each frame that it sends.

    python reliability/camera.py FILE --topic /image

A line of FILE is stamp, ``time.monotonic_ns`` just before the frame was published, order, view, a number that rises
with each size and each scene, and how many subscribers the camera knew then. Lines of stdin are commands in JSON:
``{"order": 241, "frames": 3}`` for the next frames, ``{"size": [96, 128]}``, ``{"cut": true}`` for another scene,
``{"encoding": "bgr8"}``, ``{"paused": true}`` and ``{"jump": -5.0}``, seconds by which the stamps jump. It ends with
stdin.
"""

import argparse
import array
import json
import os
import queue
import sys
import threading
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from orders import NOISE_BELOW, Order
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

_DIFFERENT = 8
"""Frames of noise, sent in turn: a camera that repeats one is reported as frozen."""
_STEPS = 30
"""Pixels by which a moving scene goes to the left, and back again, one with each frame."""
_GRAIN = 12
"""Pixels of the camera for each value of a moving scene: as smooth as optical flow can follow."""


class Camera(Node):
    """Publishes one frame per call of ``send``.

    Args:
        topic: of the images.
        log: file for the lines.
        clock: publish the stamps on ``/clock`` as well.
        loop: seconds after which the stamps begin again; 0 for never. They count from 1000 s instead of the epoch.
        moving: send a scene that moves, which optical flow can follow, instead of noise.
    """

    def __init__(self, topic: str, log: Path, clock: bool, loop: float, moving: bool):
        super().__init__(f"camera_{os.getpid()}", start_parameter_services=False)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publisher = self.create_publisher(Image, topic, qos)
        self._clock = self.create_publisher(Clock, "/clock", 10) if clock else None
        self._log = log.open("a", buffering=1)
        self._loop = round(loop * 1e9)
        self._began = time.monotonic_ns()
        self._jump = 0
        self._orders: deque[int] = deque()
        self._encoding = "bgr8"
        self._count = 0
        self._moving, self._view = moving, 0
        self.paused = False
        self.resize((96, 128))

    def resize(self, size: tuple[int, int]) -> None:
        """Send frames of another height and width, of another scene where it moves."""
        self._size = size
        self._view += 1
        rng = np.random.default_rng(self._view if self._moving else 0)
        if not self._moving:
            self._frames = list(rng.integers(0, NOISE_BELOW, (_DIFFERENT, *size, 3), np.uint8))
            return
        height, width = size
        values = rng.integers(0, NOISE_BELOW, (height // _GRAIN + 2, (width + _STEPS) // _GRAIN + 2, 3), np.uint8)
        scene = cv2.resize(values, (width + _STEPS, height), interpolation=cv2.INTER_LINEAR)
        there = [scene[:, step : step + width].copy() for step in range(_STEPS)]
        # Copies, for the first byte is the order.
        self._frames = there + [frame.copy() for frame in there[-2:0:-1]]

    def obey(self, command: dict) -> None:
        """Do what a line of stdin says."""
        self._orders.extend([command.get("order", 0)] * command.get("frames", 0))
        self._encoding = command.get("encoding", self._encoding)
        self.paused = command.get("paused", self.paused)
        self._jump += round(command.get("jump", 0) * 1e9)
        if "size" in command or command.get("cut"):
            self.resize(tuple(command.get("size", self._size)))

    def send(self) -> None:
        """Publish the next frame."""
        frame = self._frames[self._count % len(self._frames)]
        self._count += 1
        order = self._orders.popleft() if self._orders else int(Order.NONE)
        frame[0, 0, 0] = order
        if self._loop:
            stamp = 1000 * 10**9 + (time.monotonic_ns() - self._began) % self._loop + self._jump
        else:
            stamp = time.time_ns() + self._jump
        sec, nanosec = divmod(stamp, 10**9)
        height, width = self._size
        message = Image(height=height, width=width, encoding=self._encoding, step=3 * width)
        message.header.stamp, message.header.frame_id = Time(sec=sec, nanosec=nanosec), "camera"
        message.data = array.array("B", frame.tobytes())
        if self._clock:
            self._clock.publish(Clock(clock=message.header.stamp))
        subscribers = self._publisher.get_subscription_count()
        self._log.write(f"{stamp} {time.monotonic_ns()} {order} {self._view} {subscribers}\n")
        self._publisher.publish(message)


def main() -> None:
    """Send frames until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--clock", action="store_true", help="publish /clock")
    parser.add_argument("--loop", type=float, default=0.0, help="seconds after which the stamps begin again")
    parser.add_argument("--moving", action="store_true", help="send a scene that moves instead of noise")
    options = parser.parse_args()
    rclpy.init(args=[])
    camera = Camera(options.topic, options.log, options.clock, options.loop, options.moving)
    commands: queue.Queue[dict | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            commands.put(json.loads(line))
        commands.put(None)

    threading.Thread(target=listen, daemon=True).start()
    due = time.monotonic()
    while True:
        while not commands.empty():
            command = commands.get()
            if command is None:
                return
            camera.obey(command)
        if not camera.paused:
            camera.send()
        # A frame that is late is not made up for.
        due = max(due + 1 / options.rate, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
