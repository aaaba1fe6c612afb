"""The ROS node behind the page: hears a segmentation node and looks around where nothing is heard."""

import os
import re
import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import QoSCompatibility, qos_check_compatible

from seg_node.core.timing import Outcome
from seg_node.ros.frame_source import TIMING_QOS, FrameSource
from seg_node.ros.mask_of_now import now_record
from seg_node.ros.messages import frame_record
from seg_node.ros.node_categories import NodeCategories
from seg_node.web.live.hints import SILENT_S, Situation, explain
from seg_node.web.live.live import Live
from seg_node.web.live.pictures import Pictures

MOST_CAMERAS = 32
"""Cameras of a node that are shown; each is a ROS node of this process."""
_CAMERA = re.compile("[A-Za-z][A-Za-z0-9_]*")
_IMAGE_TYPES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}


class Watcher(Node):
    """Feeds the page.

    It hears timing records and diagnostics all the time, and images and masks while a browser asks for pictures.

    Args:
        node: full name of the segmentation node.
        live: gets the figures.
        pictures: get the frames, by the topic of ``SOURCES`` whose masks they show.
        starting: whether this process has just started the node.
        camera: name of one of its cameras, where it has several.

    Attributes:
        cameras: names of the node's cameras in the order of their reports, where it has several; grows as they are
            heard. Whoever wants to see one makes a watcher for it.
    """

    def __init__(self, node: str, live: Live, pictures: Mapping[str, Pictures], starting: bool, camera: str = ""):
        name = f"view_{os.getpid()}_{camera}" if camera else f"view_{os.getpid()}"
        super().__init__(name, start_parameter_services=False)
        self.cameras: list[str] = []
        # A camera's topics and its report are below the node's name as those of a node are below its own.
        target = f"{node}/{camera}" if camera else node
        self._segmentation, self._told_topic = node, "" if camera else None
        self._target, self._live, self._pictures = target, live, pictures
        self._starting = starting
        self._status, self._heard = "", 0.0
        self._last_drop = ""
        self._hint, self._hint_since, self._said = "", time.monotonic(), ""
        self._camera = ""
        self._sources: list[FrameSource] = []
        self._categories = NodeCategories(self, name=node)
        self._images, self._images_changed = 0, time.monotonic()
        self.create_subscription(DiagnosticArray, f"{target}/timing", self._on_timing, TIMING_QOS)
        # The node computes no mask of now for it: those who listen to the masks decide.
        self.create_subscription(DiagnosticArray, f"{target}/timing_now", self._on_timing_now, TIMING_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, TIMING_QOS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.25, self._follow_demand, clock=steady)
        self.create_timer(1.0, self._look, clock=steady)
        live.tell(node=target)
        self._look()

    def _on_timing(self, message: DiagnosticArray) -> None:
        for status in message.status:
            try:
                record = frame_record(status)
            except ValueError as error:
                self.get_logger().warning(f"not readable: {error}", throttle_duration_sec=1.0)
                continue
            self._live.add(record)
            if record.outcome is not Outcome.MASKED:
                self._last_drop = record.outcome.value

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._hear_camera(status.name)
            if status.name == f"{self._target}: segmentation":
                values = {item.key: item.value for item in status.values}
                engine = f"{values['engine']} ({values.get('device', '')})" if "engine" in values else ""
                self._status, self._heard = status.message, time.monotonic()
                # A reason behind the state is one why it does not start.
                self._starting &= status.message != "active" and ":" not in status.message
                self._live.tell(state=status.message, engine=engine)
                if self._told_topic is not None:
                    self._told_topic = values.get("topic", "")

    def _hear_camera(self, status: str) -> None:
        """Note a camera of the node by the name of its report."""
        camera = status.removeprefix(f"{self._target}/").removesuffix(": segmentation")
        if status != f"{self._target}/{camera}: segmentation" or not _CAMERA.fullmatch(camera):
            return
        if camera not in self.cameras and len(self.cameras) < MOST_CAMERAS:
            self.cameras.append(camera)
            self._live.tell(cameras=list(self.cameras))

    def _on_timing_now(self, message: DiagnosticArray) -> None:
        for status in message.status:
            try:
                self._live.add_now(now_record(status))
            except ValueError as error:
                self.get_logger().warning(f"not readable: {error}", throttle_duration_sec=1.0)

    def _follow_demand(self) -> None:
        self._categories.ask()
        taxonomy = self._categories.taxonomy
        self._live.tell_labels(taxonomy.labels())
        for pictures in self._pictures.values():
            pictures.taxonomy = taxonomy
        for source in self._sources:
            source.want(self._pictures[source.source].wanted)

    def _look(self) -> None:
        """Find the camera, and say what is wrong."""
        if self.cameras and time.monotonic() - self._heard < SILENT_S:
            # Each of them has a watcher, which says what is wrong with it.
            self._live.tell(hint="", camera="")
            return
        cameras = self._subscribed_images()
        # One that is gone for a moment may come back; another one takes its place.
        if cameras and self._camera not in cameras:
            for source in self._sources:
                source.want(False)
            self._camera = cameras[0]
            self._sources = [
                FrameSource(self, self._camera, self._target, pictures.offer, name)
                for name, pictures in self._pictures.items()
            ]
        heard = time.monotonic() - self._heard < SILENT_S if self._heard else False
        since_record, since_mask = self._live.silence()
        situation = Situation(
            node=self._target,
            domain=os.environ.get("ROS_DOMAIN_ID", "0"),
            starting=self._starting,
            status=self._status if heard else None,
            camera=cameras[0] if cameras else "",
            publishers=self.count_publishers(cameras[0]) if cameras else 0,
            mismatches=self._mismatches(cameras[0]) if cameras else (),
            others=self._published_images(),
            since_record=since_record,
            since_mask=since_mask,
            last_drop=self._last_drop,
            pictures_missing=self._starved(since_mask),
        )
        hint = explain(situation)
        self._live.tell(hint=hint, camera=self._camera)
        self._say(hint)

    def _say(self, hint: str) -> None:
        """Log what the page says, for who has only the terminal: once it has lasted, and again where it is another."""
        if hint != self._hint:
            self._hint, self._hint_since = hint, time.monotonic()
        elif hint != self._said and time.monotonic() - self._hint_since > SILENT_S:
            self._said = hint
            self.get_logger().info(hint or f"masks of {self._target} come")

    def _subscribed_images(self) -> list[str]:
        if self._told_topic is not None:
            return [self._told_topic] if self._told_topic else []
        namespace, _, name = self._segmentation.rpartition("/")
        try:
            topics = self.get_subscriber_names_and_types_by_node(name, namespace or "/")
        except NodeNameNonExistentError:
            return []
        return sorted(topic for topic, types in topics if set(types) & _IMAGE_TYPES)

    def _published_images(self) -> list[str]:
        """Image topics that are no output of the node itself."""
        return sorted(
            topic
            for topic, types in self.get_topic_names_and_types()
            if set(types) & _IMAGE_TYPES
            and not topic.startswith(f"{self._segmentation}/")
            and topic != self._camera
            and self.count_publishers(topic)
        )

    def _mismatches(self, camera: str) -> list[str]:
        namespace, _, name = self._segmentation.rpartition("/")
        asked = [
            info.qos_profile
            for info in self.get_subscriptions_info_by_topic(camera)
            if (info.node_namespace, info.node_name) == (namespace or "/", name)
        ]
        found = []
        for publisher in self.get_publishers_info_by_topic(camera):
            for qos in asked[:1]:
                fit, reason = qos_check_compatible(publisher.qos_profile, qos)
                if fit == QoSCompatibility.ERROR:
                    found.append(f"{publisher.node_name}: {reason.strip()}")
        return found

    def _starved(self, since_mask: float) -> bool:
        """Whether masks come and somebody looks, but no camera image has come for a while."""
        subscribed = [source for source in self._sources if source.subscribed]
        images = sum(source.images for source in subscribed) if subscribed else -1
        if images != self._images or images < 0:
            self._images, self._images_changed = images, time.monotonic()
        return since_mask < SILENT_S < time.monotonic() - self._images_changed
