"""A decision module: acts on masks, and knows what to do when one is late or missing.

    python examples/decision_module.py --ros-args -p budget_ms:=300.0
    python examples/decision_module.py --ros-args -r segmentation/mask:=/front/segmentation/mask \
        -r segmentation/timing:=/front/segmentation/timing

It publishes what it decides on ``~/decision``: ``go``, ``yield: ...`` or, where it does not see, ``slow down: ...``.
"""

import signal
from collections import OrderedDict

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

FLAT, HUMAN = 1, 6
WAITING = 8
"""Frames that may wait for their other half. The two topics differ by milliseconds, not by frames."""


class DecisionModule(Node):
    """Matches each mask with its timing record by the header stamp, which is that of the camera's frame."""

    def __init__(self):
        super().__init__("decision")
        # Older than this, a mask shows where the road was. Choose it by speed: 300 ms are 4 m at 50 km/h.
        self.budget = self.declare_parameter("budget_ms", 300.0).value
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.waiting: OrderedDict[tuple[int, int], dict] = OrderedDict()
        self.seen_until = self.steady.now()
        self.why_not = "no mask has come yet"
        self.decision = self.create_publisher(String, "~/decision", 10)
        # Both are reliable and volatile: a subscriber that asks for transient local would get nothing.
        self.create_subscription(Image, "segmentation/mask", self.on_mask, QoSProfile(depth=1))
        self.create_subscription(DiagnosticArray, "segmentation/timing", self.on_timing, QoSProfile(depth=100))
        # Missing masks cause no callback, so somebody has to look at the clock.
        self.create_timer(0.05, self.watch, clock=self.steady)

    def on_mask(self, message: Image) -> None:
        """One half of a frame."""
        self.match(message.header, mask=message)

    def on_timing(self, message: DiagnosticArray) -> None:
        """The other half; there is one for every frame, masked or dropped."""
        record = message.status[0]
        if record.message == "masked":
            self.match(message.header, record=record)
        else:
            # superseded is normal under load: a newer frame is on its way. The others are not.
            self.why_not = f"the last frame was {record.message}"

    def match(self, header: Header, **half) -> None:
        """Decide once both halves are there."""
        stamp = (header.stamp.sec, header.stamp.nanosec)
        frame = self.waiting.setdefault(stamp, {})
        frame |= half
        if len(frame) == 2:
            del self.waiting[stamp]
            self.decide(frame["mask"], {pair.key: pair.value for pair in frame["record"].values})
        while len(self.waiting) > WAITING:
            self.waiting.popitem(last=False)

    def decide(self, message: Image, record: dict[str, str]) -> None:
        """Act on a mask, if it came in time."""
        # The node knows the age on the clock of the stamps; `late` is what its own deadline_ms makes of it.
        age = float(record["age"]) if "age" in record else float(record["total"])
        if record["late"] == "true" or age > self.budget:
            self.why_not = f"the last mask was {age:.0f} ms old"
            return
        self.seen_until = self.steady.now() + Duration(nanoseconds=round((self.budget - age) * 1e6))
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width]
        ahead = rows[message.height // 2 :, message.width // 4 : -message.width // 4]
        road, people = (ahead == FLAT).mean(), (ahead == HUMAN).mean()
        self.say("yield: somebody is on the road" if people > 0.01 else "go" if road > 0.5 else "yield: no road ahead")

    def watch(self) -> None:
        """Say so when the newest usable mask has become too old, and keep saying so."""
        if self.steady.now() > self.seen_until:
            self.say(f"slow down: {self.why_not}")

    def say(self, text: str) -> None:
        """Publish a decision."""
        self.decision.publish(String(data=text))
        self.get_logger().info(text, throttle_duration_sec=0.5)


def main() -> None:
    """Run until interrupted."""
    # rclpy's own handlers take the context away in the middle of whatever the executor does.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        rclpy.spin(DecisionModule())
    except KeyboardInterrupt:
        rclpy.shutdown()


if __name__ == "__main__":
    main()
