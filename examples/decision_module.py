"""A decision module: acts on masks, and knows what to do when one is late or missing.

    python examples/decision_module.py --ros-args -p budget_ms:=300.0
    python examples/decision_module.py --ros-args -r __ns:=/front        # listens to /front/segmentation/...
    python examples/decision_module.py --ros-args -r segmentation/mask:=/masks -r segmentation/timing:=/records

It publishes what it decides on ``~/decision``: ``go``, ``yield: ...`` or, where it does not see, ``slow down: ...``.
"""

import math
import signal
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

FLAT, HUMAN = 1, 6
WAITING = 8
"""Number of frames that may wait for their other half. The two topics differ by milliseconds, not by frames."""
AHEAD_MS = 100.0
"""Time by which a stamp may be ahead of the node's clock: clocks that are synchronised differ by less."""
DAY_MS = 86_400_000.0
SILENT_S = 1.0
"""Time without a message after which somebody should look at the topics."""
REPEAT_S = 10.0
"""Time after which a decision that has not changed is logged again."""


def trust(record: Mapping[str, str], budget: float) -> tuple[float, str]:
    """Say how long a mask may be acted on.

    Args:
        record: values of the mask's timing record.
        budget: age in milliseconds beyond which a mask is not to be trusted.

    Returns:
        Milliseconds from now on, and an empty text; or 0, and why the mask cannot be trusted.
    """
    age, total = _number(record, "age"), _number(record, "total")
    if age is None:
        return 0.0, "the last mask has no age: its frame has no stamp, or the node's clock no time"
    if total is None or total < 0:
        return 0.0, "the last mask's record does not say how long it took"
    if age < -AHEAD_MS:
        return 0.0, f"the stamps are ahead of the node's clock, by {-age:.0f} ms"
    if age > DAY_MS:
        return 0.0, (
            f"the last mask was stamped in the past, {age / DAY_MS:.0f} days ago: for a recorded drive, start the node"
            " with use_sim_time:=true and the drive with --clock"
        )
    # The node measures the total on a steady clock, so it holds whatever the stamps are worth.
    oldest = max(age, total)
    if record.get("late") != "false":
        return 0.0, f"the last mask was late, {oldest:.0f} ms old"
    if not oldest < budget:
        return 0.0, f"the last mask was {oldest:.0f} ms old"
    return budget - oldest, ""


def _number(record: Mapping[str, str], name: str) -> float | None:
    """A finite number of a record; None where it has none."""
    try:
        number = float(record[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def how_to_listen(mask_topic: str) -> str:
    """Arguments with which this module listens to a mask topic elsewhere."""
    namespace, found, _ = mask_topic.partition("/segmentation/mask")
    if found and mask_topic.endswith(found):
        return f"-r __ns:={namespace or '/'}"
    return f"-r segmentation/mask:={mask_topic} -r segmentation/timing:={mask_topic.rpartition('/')[0]}/timing"


class DecisionModule(Node):
    """Matches each mask with its timing record by the header stamp, which is that of the camera's frame."""

    def __init__(self):
        super().__init__("decision")
        # Older than this, a mask shows where the road was. Choose it by speed: 300 ms are 4 m at 50 km/h.
        # Typed dynamically, so that budget_ms:=300 will do.
        self.budget = float(self.declare_parameter("budget_ms", 300.0, ParameterDescriptor(dynamic_typing=True)).value)
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.waiting: OrderedDict[tuple[int, int], dict] = OrderedDict()
        self.seen_until = self.now()
        self.why_not = ""
        self.said, self.said_at = "", -math.inf
        self.looked_at, self.found = -math.inf, ""
        self.decision = self.create_publisher(String, "~/decision", 10)
        # Both are reliable and volatile: a subscriber that asks for transient local would get nothing.
        masks = self.create_subscription(Image, "segmentation/mask", self.on_mask, QoSProfile(depth=1))
        records = self.create_subscription(
            DiagnosticArray, "segmentation/timing", self.on_timing, QoSProfile(depth=100)
        )
        self.mask_topic, self.timing_topic = masks.topic_name, records.topic_name
        self.came = dict.fromkeys((self.mask_topic, self.timing_topic), self.now())
        # Missing masks cause no callback, so somebody has to look at the clock.
        self.create_timer(0.05, self.watch, clock=self.steady)

    def now(self) -> float:
        """Seconds on a clock that neither jumps nor stands still."""
        return self.steady.now().nanoseconds / 1e9

    def on_mask(self, message: Image) -> None:
        """One half of a frame."""
        self.came[self.mask_topic] = self.now()
        self.match(message.header, mask=message)

    def on_timing(self, message: DiagnosticArray) -> None:
        """The other half; there is one for every frame, masked or dropped."""
        self.came[self.timing_topic] = self.now()
        if not message.status:
            return
        record = message.status[0]
        if record.message == "masked":
            self.match(message.header, record=record)
        elif record.message != "superseded":
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
        trusted, self.why_not = trust(record, self.budget)
        if self.why_not:
            return
        self.seen_until = self.now() + trusted / 1e3
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width]
        ahead = rows[message.height // 2 :, message.width // 4 : -message.width // 4]
        road, people = (ahead == FLAT).mean(), (ahead == HUMAN).mean()
        self.say("yield: somebody is on the road" if people > 0.01 else "go" if road > 0.5 else "yield: no road ahead")

    def watch(self) -> None:
        """Say so when the newest usable mask has become too old, and keep saying so."""
        now = self.now()
        if now <= self.seen_until:
            return
        silent = [topic for topic, at in self.came.items() if now - at > SILENT_S]
        if self.timing_topic not in silent and self.why_not:
            self.say(f"slow down: {self.why_not}")
        elif silent:
            if now - self.looked_at > SILENT_S:
                self.looked_at, self.found = now, self.look_around(silent)
            self.say(f"slow down: {self.found}")
        else:
            self.say("slow down: the next mask is not there yet")

    def look_around(self, silent: list[str]) -> str:
        """Say on which topics nothing comes, who publishes there, and where there are masks."""
        texts = [f"nothing comes on {topic} (publishers: {self.count_publishers(topic)})" for topic in silent]
        topics = self.get_topic_names_and_types()
        others = [
            name
            for name, kinds in topics
            if name.endswith("/mask") and "sensor_msgs/msg/Image" in kinds and name != self.mask_topic
        ]
        texts += [f"there is {name}: to listen there, add {how_to_listen(name)}" for name in sorted(others)]
        if not others and not self.count_publishers(self.mask_topic):
            texts.append("no segmentation node is to be seen in this ROS domain")
        return "; ".join(texts)

    def say(self, text: str) -> None:
        """Publish a decision, and log it if it is another one or was not logged for long; ages alone change nothing."""
        self.decision.publish(String(data=text))
        kind = "".join(letter for letter in text if not letter.isdigit())
        since = self.now() - self.said_at
        if since > (0.5 if kind != self.said else REPEAT_S):
            self.get_logger().info(text)
            self.said, self.said_at = kind, self.now()


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
