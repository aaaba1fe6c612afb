"""The projection node: masks as a cloud of points and as a grid of the ground, in a process of its own."""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from seg_node.core.errors import UndecodableError, UserError
from seg_node.core.projection.autoware import OF_CATEGORIES, label_table, run_lengths
from seg_node.core.projection.depth import read_depth
from seg_node.core.projection.errors import Drop, ProjectionError
from seg_node.core.projection.grid import GridSpec, class_table
from seg_node.core.projection.join import MASK, MaskJoin
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL
from seg_node.core.timing import stamp_ns
from seg_node.ros.bringup import below_camera
from seg_node.ros.messages import diagnostics, read_mono8
from seg_node.ros.parameters import Spec, check, declare_parameters
from seg_node.ros.process import run_node
from seg_node.ros.projection.camera_pose import MountedCamera, TransformedCamera
from seg_node.ros.projection.messages import autoware_image, calibration, empty_cloud, grid_message
from seg_node.ros.transfer.serialized_transfer import publish_serialized

_GRID = GridSpec()

PARAMETERS = {
    "camera": Spec(
        "", "Name of one of a node's several cameras, whose topics are below that name; empty for one.", read_only=True
    ),
    "depth": Spec(False, "Wait for a depth image of each mask; without it the ground is flat.", read_only=True),
    "confidence": Spec(
        True, "Wait for the confidence of each mask; false for mask_now, which has none.", read_only=True
    ),
    "rectified": Spec(False, "The images are rectified: P of camera_info holds, without distortion.", read_only=True),
    "ground": Spec(
        "mounting",
        "Where the camera is: by camera_height, camera_pitch and camera_roll, or by tf from base_frame.",
        choices=("mounting", "tf"),
        read_only=True,
    ),
    "camera_height": Spec(
        0.0, "Metres from the ground to the lens; 0 for unknown.", range=(0.0, 1000.0), read_only=True
    ),
    "camera_pitch": Spec(
        0.0, "Radians by which the camera looks down.", range=(-math.pi / 2, math.pi / 2), read_only=True
    ),
    "camera_roll": Spec(0.0, "Radians by which its right side is lower.", range=(-math.pi, math.pi), read_only=True),
    "base_frame": Spec("base_footprint", "Frame of the grid, on the ground: x ahead, y left.", read_only=True),
    "category_names": Spec(list(CATEGORY_NAMES), "Name of each mask value.", read_only=True),
    "drivable": Spec(["flat"], "Categories that can be driven on.", read_only=True),
    "ignored": Spec(
        ["void", "sky"], "Categories that say nothing of the ground; the rest is in the way.", read_only=True
    ),
    "autoware_labels": Spec(
        list(OF_CATEGORIES.values()), "Autoware's label of each mask value, for ~/autoware_mask.", read_only=True
    ),
    "grid_resolution": Spec(
        _GRID.resolution, "Side of a cell of the grid in metres.", range=(0.01, 10.0), read_only=True
    ),
    "grid_length": Spec(_GRID.length, "Metres of the grid ahead of base_frame.", range=(0.1, 1000.0), read_only=True),
    "grid_width": Spec(
        _GRID.width, "Metres of the grid across, half to either side.", range=(0.1, 1000.0), read_only=True
    ),
    "obstacle_depth": Spec(
        _GRID.obstacle_depth,
        "Metres behind the foot of an obstacle that belong to it; farther is unknown.",
        range=(0.01, 100.0),
        read_only=True,
    ),
    "ground_tolerance": Spec(
        _GRID.ground_tolerance,
        "Height in metres up to which a point of a depth image is ground.",
        range=(0.001, 10.0),
        read_only=True,
    ),
    "max_height": Spec(
        _GRID.max_height,
        "Height in metres from which a point of a depth image is overhead.",
        range=(0.01, 100.0),
        read_only=True,
    ),
}

MASK_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
SENSOR_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)

_DEMAND_S = 0.25
"""Seconds between two looks whether somebody subscribes."""


class ProjectionNode(Node):
    """Projects the masks of a segmentation node.

    Subscribes, only while somebody subscribes to what comes of it, to ``segmentation/mask``,
    ``segmentation/confidence``, ``camera_info`` and ``depth``, with the parameter ``camera`` to those of one of several
    cameras: ``segmentation/front/mask``, ``front/camera_info``. Publishes

    * ``~/points``: a point for each pixel of the mask, with its header;
    * ``~/grid``: the ground ahead, with its stamp;
    * ``~/autoware_mask``: the mask in Autoware's labels, run-length encoded, with its header;
    * ``/diagnostics`` once a second: masks ``received``, ``projected``, and dropped by reason.

    Args:
        options: of ``rclpy``'s ``Node``.

    Raises:
        ValueError: parameters that are not right.
    """

    def __init__(self, **options):
        super().__init__("projection", **options)
        declare_parameters(self, PARAMETERS)
        if problems := [found for name in PARAMETERS if (found := check(self.get_parameter(name), "any", PARAMETERS))]:
            raise ValueError("; ".join(problems))
        value = {name: self.get_parameter(name).value for name in PARAMETERS}
        names = _names(value["category_names"])
        if len(value["autoware_labels"]) != len(names):
            raise UserError(
                f"autoware_labels are {len(value['autoware_labels'])}, category_names {len(names)}; give one for each"
            )
        self._count = len(names)
        self._labels = label_table(value["autoware_labels"])
        self._spec = GridSpec(
            value["grid_resolution"],
            value["grid_length"],
            value["grid_width"],
            value["obstacle_depth"],
            value["ground_tolerance"],
            value["max_height"],
        )
        # A list cannot be given empty on a command line, but one of an empty name can.
        drivable, ignored = ([name for name in value[each] or [] if name] for each in ("drivable", "ignored"))
        table = class_table(names, drivable, ignored)
        self._projector = Projector(self._spec, table, value["rectified"])
        self._base_frame = value["base_frame"]
        if value["ground"] == "tf":
            self._camera = TransformedCamera(self, self._base_frame)
        else:
            self._camera = MountedCamera(value["camera_height"], value["camera_pitch"], value["camera_roll"])
        if not value["depth"] and value["ground"] == "mounting" and not value["camera_height"]:
            raise UserError(
                "camera_height is 0.0: without a depth image the height of the lens above the ground is needed; "
                "set camera_height in metres, or ground to 'tf', or depth to true"
            )
        topics = [(Image, "segmentation/mask", MASK, MASK_QOS)]
        topics += [(Image, "segmentation/confidence", "confidence", MASK_QOS)] * value["confidence"]
        topics += [(Image, "depth", "depth", SENSOR_QOS)] * value["depth"]
        camera = value["camera"]
        self._topics = [(kind, below_camera(topic, camera), part, qos) for kind, topic, part, qos in topics]
        self._info_topic = below_camera("camera_info", camera)
        self._join: MaskJoin[Image] = MaskJoin([part for _, _, part, _ in topics[1:]])
        self._info: CameraInfo | None = None
        self._listening: list = []
        self._fault, self._faults_before = "", 0
        self._milliseconds = 0.0
        self._points = self.create_publisher(PointCloud2, "~/points", OUTPUT_QOS)
        self._grid = self.create_publisher(OccupancyGrid, "~/grid", OUTPUT_QOS)
        self._autoware = self.create_publisher(Image, "~/autoware_mask", OUTPUT_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time the others stand still while no bag plays.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DEMAND_S, self._follow_demand, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def _follow_demand(self) -> None:
        wanted = any(each.get_subscription_count() for each in (self._points, self._grid, self._autoware))
        if wanted and not self._listening:
            self._listening = [
                self.create_subscription(kind, name, lambda message, part=part: self._on_part(part, message), qos)
                for kind, name, part, qos in self._topics
            ]
            self._listening.append(self.create_subscription(CameraInfo, self._info_topic, self._on_info, SENSOR_QOS))
        elif not wanted and self._listening:
            for subscription in self._listening:
                self.destroy_subscription(subscription)
            self._listening = []
            self._join.clear()

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_part(self, part: str, message: Image) -> None:
        frame = self._join.add(part, stamp_ns(message.header), message)
        if frame is None:
            return
        begun = time.perf_counter()
        try:
            self._project(frame)
        except ProjectionError as error:
            self._drop(error.drop, str(error))
        except UndecodableError as error:
            self._drop(Drop.UNREADABLE, str(error))
        except Exception as error:
            # Counted before run_node logs it: the books have to balance.
            self._drop(Drop.FAILED, f"{type(error).__name__}: {error}")
        else:
            self._join.projected += 1
            self._milliseconds = (time.perf_counter() - begun) * 1e3

    def _drop(self, drop: Drop, why: str) -> None:
        self._join.dropped[drop] += 1
        self._fault = why
        self.get_logger().warning(f"not projected: {why}", throttle_duration_sec=1.0)

    def _project(self, frame: dict[str, Image]) -> None:
        header = frame[MASK].header
        mask = read_mono8(frame[MASK])
        # Only 255, no answer, is beyond: other categories than those that were given would be taken for them.
        worst = int(mask.max(initial=0))
        if worst == NO_LABEL:
            worst = int(mask[mask != NO_LABEL].max(initial=0))
        if worst >= self._count:
            raise UndecodableError(
                f"the mask holds category {worst}, category_names has {self._count}: give the names of the model's own "
                "categories, which the segmentation node has in its parameter category_names"
            )
        confidence = read_mono8(frame["confidence"]) if "confidence" in frame else None
        if confidence is not None and confidence.shape != mask.shape:
            sizes = " and ".join(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (mask, confidence))
            raise UndecodableError(f"mask and confidence are {sizes}; they must have one size")
        if self._autoware.get_subscription_count():
            self._autoware.publish(autoware_image(run_lengths(mask, self._labels), mask, header))
        wants_points, wants_grid = (each.get_subscription_count() > 0 for each in (self._points, self._grid))
        if not wants_points and not wants_grid:
            return
        if self._info is None:
            raise ProjectionError(Drop.NO_CAMERA_INFO, f"no message on {self.resolve_topic_name(self._info_topic)} yet")
        camera = calibration(self._info)
        depth = read_depth(frame["depth"], *mask.shape) if "depth" in frame else None
        # A cloud of a depth image needs no ground.
        pose = self._camera.pose(header) if wants_grid or depth is None else None
        if wants_points:
            message, points = empty_cloud(header, *mask.shape)
            self._projector.write_points(points, mask, confidence, camera, pose, depth)
            publish_serialized(self._points, message)
        if wants_grid:
            grid = self._projector.grid(mask, camera, pose, depth)
            self._grid.publish(grid_message(grid, self._spec, header, self._base_frame))

    def _publish_diagnostics(self) -> None:
        join = self._join
        values = {"received": join.received, "projected": join.projected}
        values |= {f"dropped.{drop.value}": join.dropped[drop] for drop in Drop}
        values |= {"waiting": join.waiting, "milliseconds": f"{self._milliseconds:.2f}"}
        faults = join.dropped.total()
        new, self._faults_before = faults - self._faults_before, faults
        state = "projecting" if self._listening else "idle: nobody subscribes"
        if faults:
            values["newest_fault"] = self._fault or Drop.INCOMPLETE.value
        if new:
            state += f"; {new} masks dropped: {values['newest_fault']}"
        self._diagnostics.publish(
            diagnostics(
                Header(stamp=self.get_clock().now().to_msg()),
                f"{self.get_fully_qualified_name()}: projection",
                DiagnosticStatus.WARN if new else DiagnosticStatus.OK,
                state,
                "",
                {name: str(value) for name, value in values.items()},
            )
        )


def _names(names: list[str]) -> list[str]:
    """The categories' names.

    Raises:
        UserError: there are none or too many, or one is empty or there twice.
    """
    if not 1 <= len(names) <= 254:
        raise UserError(f"category_names are {len(names)}; expected 1 to 254")
    if not all(name.strip() for name in names):
        raise UserError("category_names has an empty name; give each category one")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"category_names has {', '.join(twice)} more than once")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit status."""
    return run_node(ProjectionNode, "projection", 2, arguments)
