"""The overlay node: masks painted over the camera's images for people, in a process of its own."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from seg_node.core.errors import UndecodableError
from seg_node.core.frame_join import Frame
from seg_node.core.overlay import annotate, caption, paint
from seg_node.ros.bringup import below_camera
from seg_node.ros.frame_source import SOURCES, FrameSource, decode_frame
from seg_node.ros.messages import bgr8_image, diagnostics
from seg_node.ros.node_categories import NodeCategories
from seg_node.ros.parameters import TRANSPORTS, Spec, check, declare_parameters, refusal
from seg_node.ros.process import run_node

PARAMETERS = {
    "alpha": Spec(0.5, "Share of the categories' colours in the overlay.", range=(0.0, 1.0)),
    "source": Spec(
        "mask",
        "What is painted: mask, what was inferred; or mask_now, carried to every frame, which the node then computes.",
        choices=SOURCES,
    ),
    "image_transport": Spec("raw", "Subscribe to image or image/compressed.", choices=TRANSPORTS, read_only=True),
    "camera": Spec(
        "", "Name of one of a node's several cameras, whose topics are below that name; empty for one.", read_only=True
    ),
}

OVERLAY_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
INFO_QOS = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
INFO_SUBSCRIPTION_QOS = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)

_DEMAND_S = 0.25
"""Seconds between two looks whether somebody subscribes."""


class OverlayNode(Node):
    """Paints the masks of a segmentation node, and relays the camera's calibration beside them.

    With the parameter ``camera`` all topics are below that camera's name: ``front/image``, ``segmentation/front/mask``.

    Subscribes, only while somebody subscribes to what comes of it, to ``image`` (or ``image/compressed``),
    ``segmentation/mask`` and ``segmentation/timing`` (or ``segmentation/mask_now`` and ``segmentation/timing_now``, by
    the parameter ``source``), and to ``camera_info``. Names and colours are those of the node that publishes the masks,
    see ``NodeCategories``. Publishes, beside the mask,

    * ``segmentation/overlay``: bgr8, camera-sized, with the header of the camera's message;
    * ``segmentation/camera_info``: the camera's messages as they are. Whoever projects an image by its calibration
      looks for it under this name beside the image, and the mask has the camera's size, header and lens;
    * ``/diagnostics`` once a second: frames ``painted``, messages that were ``unreadable``, and masks left
      ``incomplete`` because their image or record never came.
    """

    def __init__(self):
        super().__init__("overlay")
        declare_parameters(self, PARAMETERS)
        if problems := [problem for name in PARAMETERS if (problem := self._check(self.get_parameter(name)))]:
            raise ValueError("; ".join(problems))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._painted = 0
        self._overlay = self.create_publisher(Image, self._of_camera("segmentation/overlay"), OVERLAY_QOS)
        self._info = self.create_publisher(CameraInfo, self._of_camera("segmentation/camera_info"), INFO_QOS)
        self._info_subscription = None
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        compressed = self.get_parameter("image_transport").value == "compressed"
        self._camera = self._of_camera("image/compressed" if compressed else "image")
        masks = self.resolve_topic_name(self._of_camera("segmentation/mask"))
        self._categories = NodeCategories(self, topic=masks)
        self._source = self._listen_to(self.get_parameter("source").value)
        # On a steady clock: with use_sim_time the others stand still while no bag plays.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DEMAND_S, self._follow_demand, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def _of_camera(self, topic: str) -> str:
        return below_camera(topic, self.get_parameter("camera").value)

    @staticmethod
    def _check(parameter: Parameter) -> str:
        return check(parameter, "active", PARAMETERS)

    def _on_parameters(self, parameters: list[Parameter]):
        return refusal("; ".join(filter(None, map(self._check, parameters))))

    def _listen_to(self, source: str) -> FrameSource:
        return FrameSource(self, self._camera, self._of_camera("segmentation"), self._on_frame, source)

    def _follow_demand(self) -> None:
        if (source := self.get_parameter("source").value) != self._source.source:
            self._source.want(False)
            self._source = self._listen_to(source)
        self._source.want(self._overlay.get_subscription_count() > 0)
        if self._source.subscribed:
            self._categories.ask()
        wanted = self._info.get_subscription_count() > 0
        if wanted and self._info_subscription is None:
            # As it came: nothing is read, so nothing can be lost in a conversion.
            self._info_subscription = self.create_subscription(
                CameraInfo, self._of_camera("camera_info"), self._info.publish, INFO_SUBSCRIPTION_QOS, raw=True
            )
        elif not wanted and self._info_subscription is not None:
            self.destroy_subscription(self._info_subscription)
            self._info_subscription = None

    def _on_frame(self, frame: Frame) -> None:
        try:
            bgr, mask = decode_frame(frame)
        except UndecodableError as error:
            self._source.refuse(error)
            return
        taxonomy = self._categories.taxonomy
        picture = paint(bgr, mask, self.get_parameter("alpha").value, taxonomy)
        annotate(picture, caption(frame.record), mask, taxonomy)
        self._overlay.publish(bgr8_image(picture, frame.image.header))
        self._painted += 1

    def _publish_diagnostics(self) -> None:
        bad = {"unreadable": self._source.unreadable, "incomplete": self._source.join.incomplete}
        self._diagnostics.publish(
            diagnostics(
                Header(stamp=self.get_clock().now().to_msg()),
                f"{self.get_fully_qualified_name()}: overlay",
                DiagnosticStatus.WARN if any(bad.values()) else DiagnosticStatus.OK,
                "painting" if self._source.subscribed else "idle: nobody subscribes",
                "",
                {name: str(value) for name, value in {"painted": self._painted, **bad}.items()},
            )
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit status."""
    return run_node(OverlayNode, "overlay", 2, arguments)
