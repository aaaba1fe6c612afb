"""A decision module: acts on masks, and knows what to do when one is late or missing.

It trusts ``segmentation/mask`` and tracks with ``segmentation/mask_now``: what was inferred decides whether the road is
free, and what was carried to the present can only take that back, never give it.

    python examples/decision_module.py --ros-args -p budget_ms:=300.0
    python examples/decision_module.py --ros-args -r __ns:=/front        # listens to /front/segmentation/...
    python examples/decision_module.py --ros-args -p camera:=front       # segmentation/front/..., one of several
    python examples/decision_module.py --ros-args -r segmentation/mask:=/masks -r segmentation/timing:=/records
    python examples/decision_module.py --ros-args -p track:=false        # without the mask of now, which costs the node
    python examples/decision_module.py --ros-args -p "categories:=[lane, kerb, person]" -p "road:=[lane]" \\
        -p "people:=[person]"                                            # a model with categories of its own

It publishes what it decides on ``~/decision``: ``go``, ``yield: ...`` or, where it does not see, ``slow down: ...``.
"""

import math
import signal
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

CATEGORIES = ["void", "flat", "construction", "object", "nature", "sky", "human", "vehicle"]
NO_ANSWER = 255
WAITING = 8
"""Number of frames that may wait for their other half. The two topics differ by milliseconds, not by frames."""
AHEAD_MS = 100.0
"""Time by which a stamp may be ahead of the node's clock: clocks that are synchronised differ by less."""
DAY_MS = 86_400_000.0
ROUNDING_MS = 1.0
"""Times of records are rounded."""
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
        return 0.0, f"the last mask was {oldest:.0f} ms old, budget_ms is {budget:.0f}"
    return budget - oldest, ""


def track(record: Mapping[str, str], budget: float) -> tuple[float, str]:
    """Say how long a mask of now may be tracked with: until what it was carried from is too old.

    Args:
        record: values of its record on ``timing_now``.
        budget: age in milliseconds beyond which what was inferred is not to be trusted, carried or not.

    Returns:
        Milliseconds from now on, and an empty text; or 0, and why it cannot be tracked with.
    """
    age, ahead, total = (_number(record, name) for name in ("keyframe_age", "horizon_ms", "total"))
    if age is None or ahead is None:
        return 0.0, "the last mask of now does not say how old its source is"
    if total is None or total < 0:
        return 0.0, "the last mask of now does not say how long it took"
    if age < 0 or ahead < 0 or ahead > age + ROUNDING_MS:
        return 0.0, "the last mask of now is of a time before its source"
    if age > DAY_MS:
        return 0.0, f"the source of the last mask of now is {age / DAY_MS:.0f} days old"
    # The age is that at the time for which the mask holds; that time may be past, or still to come.
    oldest = max(age, age - ahead + total)
    if not oldest < budget:
        return 0.0, f"the source of the last mask of now was {oldest:.0f} ms old, budget_ms is {budget:.0f}"
    return budget - oldest, ""


def _number(record: Mapping[str, str], name: str) -> float | None:
    """A finite number of a record; None where it has none."""
    try:
        number = float(record[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def stamp_of(header: Header) -> int:
    """Stamp in nanoseconds."""
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """Values of a record."""
    return {pair.key: pair.value for pair in status.values}


def ids_of(names: Sequence[str], categories: Sequence[str]) -> list[int]:
    """Mask values of some categories.

    Raises:
        ValueError: there is no such category; the message says which there are.
    """
    if missing := [name for name in names if name not in categories]:
        raise ValueError(f"no category {', '.join(missing)}; categories are {', '.join(categories)}")
    return [list(categories).index(name) for name in names]


def pixels(mask: Image) -> np.ndarray:
    """A mask, uint8 [H, W]."""
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.step)[:, : mask.width]


def shares(mask: Image, road: Sequence[int] = (1,), people: Sequence[int] = (6,)) -> tuple[float, float]:
    """Shares of road and of people, 0 to 1, of what lies ahead; each given by its mask values."""
    ahead = pixels(mask)[mask.height // 2 :, mask.width // 4 : -mask.width // 4]
    return np.isin(ahead, road).mean(), np.isin(ahead, people).mean()


def unknown(mask: Image, count: int) -> str:
    """Say which category a mask holds that has no name here; empty where all have one."""
    values = pixels(mask)
    worst = int(values[values != NO_ANSWER].max(initial=0))
    return f"the mask holds category {worst}, and categories names {count}: give those of the model" * (worst >= count)


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
        follow = self.declare_parameter("track", True).value
        # Of the segmentation node, which has them in its parameter category_names.
        self.categories = list(self.declare_parameter("categories", CATEGORIES).value)
        self.road, self.people = (
            ids_of(self.declare_parameter(name, default).value, self.categories)
            for name, default in (("road", ["flat"]), ("people", ["human"]))
        )
        # A node with several cameras has the topics of each below that camera's name.
        camera = self.declare_parameter("camera", "").value
        below = f"segmentation/{camera}" if camera else "segmentation"
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.waiting: OrderedDict[int, dict] = OrderedDict()
        self.waiting_now: OrderedDict[int, dict] = OrderedDict()
        self.seen_until, self.free = self.now(), False
        self.why_not = ""
        self.said, self.said_at = "", -math.inf
        self.looked_at, self.found = -math.inf, ""
        self.decision = self.create_publisher(String, "~/decision", 10)
        # Both are reliable and volatile: a subscriber that asks for transient local would get nothing.
        masks = self.create_subscription(Image, f"{below}/mask", self.on_mask, QoSProfile(depth=1))
        records = self.create_subscription(DiagnosticArray, f"{below}/timing", self.on_timing, QoSProfile(depth=100))
        self.mask_topic, self.timing_topic = masks.topic_name, records.topic_name
        self.came = dict.fromkeys((self.mask_topic, self.timing_topic), self.now())
        if follow:
            # Their subscription is what makes the node compute them.
            self.create_subscription(Image, f"{below}/mask_now", self.on_mask_now, QoSProfile(depth=1))
            self.create_subscription(DiagnosticArray, f"{below}/timing_now", self.on_timing_now, QoSProfile(depth=100))
        # Missing masks cause no callback, so somebody has to look at the clock.
        self.create_timer(0.05, self.watch, clock=self.steady)

    def now(self) -> float:
        """Seconds on a clock that neither jumps nor stands still."""
        return self.steady.now().nanoseconds / 1e9

    def on_mask(self, message: Image) -> None:
        """One half of a frame."""
        self.came[self.mask_topic] = self.now()
        self.match(self.waiting, stamp_of(message.header), self.decide, mask=message)

    def on_timing(self, message: DiagnosticArray) -> None:
        """The other half; there is one for every frame, masked or dropped."""
        self.came[self.timing_topic] = self.now()
        if not message.status:
            return
        record = message.status[0]
        if record.message == "masked":
            self.match(self.waiting, stamp_of(message.header), self.decide, record=values_of(record))
        elif record.message != "superseded":
            # superseded is normal under load: a newer frame is on its way. The others are not.
            self.why_not = f"the last frame was {record.message}"

    def on_mask_now(self, message: Image) -> None:
        """One half of a mask of now, stamped with the time for which it holds."""
        self.match(self.waiting_now, stamp_of(message.header), self.follow, mask=message)

    def on_timing_now(self, message: DiagnosticArray) -> None:
        """The other half, stamped with its frame; its horizon leads from there to the time for which the mask holds."""
        if not message.status or message.status[0].message != "propagated":
            return
        record = values_of(message.status[0])
        if (ahead := _number(record, "horizon_ms")) is not None:
            stamp = stamp_of(message.header) + round(1e6 * ahead)
            self.match(self.waiting_now, stamp, self.follow, record=record)

    def match(self, waiting: OrderedDict[int, dict], stamp: int, act: Callable[[Image, dict], None], **half) -> None:
        """Act once both halves are there."""
        frame = waiting.setdefault(stamp, {})
        frame |= half
        if len(frame) == 2:
            del waiting[stamp]
            act(frame["mask"], frame["record"])
        while len(waiting) > WAITING:
            waiting.popitem(last=False)

    def decide(self, message: Image, record: dict[str, str]) -> None:
        """Act on a mask, if it came in time."""
        trusted, self.why_not = trust(record, self.budget)
        self.why_not = self.why_not or unknown(message, len(self.categories))
        if self.why_not:
            return
        self.seen_until = self.now() + trusted / 1e3
        road, people = shares(message, self.road, self.people)
        self.free = people <= 0.01 and road > 0.5
        self.say("yield: somebody is on the road" if people > 0.01 else "go" if road > 0.5 else "yield: no road ahead")

    def follow(self, message: Image, record: dict[str, str]) -> None:
        """Track: between two masks, take a free road back where somebody has come upon it.

        What is not in a mask of now may be there all the same, so it never makes a road free, nor a mask younger.
        """
        tracked, _ = track(record, self.budget)
        if not tracked or not self.free or self.now() > self.seen_until:
            return
        if shares(message, self.road, self.people)[1] > 0.01:
            self.say("yield: somebody has come upon the road")

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
