"""A camera beside a real node, for tests."""

import contextlib
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_node.core.timing import Outcome

SERVICES = {
    ChangeState: "change_state",
    DescribeParameters: "describe_parameters",
    GetParameters: "get_parameters",
    GetState: "get_state",
    SetParameters: "set_parameters",
}


class Camera:
    """Publishes frames to a node, collects what comes back, by stamp, and calls the node's services.

    Each end of a connection learns of the other by itself, and what is published before the far end is known is lost.
    A participant tells of its endpoints in the order in which they were made, and the subscription of the diagnostics
    is the last one here: a node whose diagnostics are heard knows all the others.
    """

    def __init__(self, name="/segmentation", topic="image", message_type=Image, reliable=False):
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.node = rclpy.create_node(f"camera_{time.monotonic_ns()}")
        self.publisher = self.node.create_publisher(message_type, topic, QoSProfile(depth=5, reliability=reliability))
        self.name = name
        self.stamp = 0
        self.masks, self.records, self.confidences, self.diagnostics = {}, {}, {}, []
        self._clients = {kind: self.node.create_client(kind, f"{name}/{call}") for kind, call in SERVICES.items()}
        deep = QoSProfile(depth=1000)
        self.node.create_subscription(Image, f"{name}/mask", lambda m: self._keep(self.masks, m), deep)
        self.node.create_subscription(DiagnosticArray, f"{name}/timing", lambda m: self._keep(self.records, m), deep)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _keep(self, where, message):
        key = (message.header.stamp.sec, message.header.stamp.nanosec)
        assert key not in where, f"two messages for {key}"
        where[key] = message

    def _keep_diagnostics(self, message):
        if message.status[0].name == f"{self.name}: segmentation":
            self.diagnostics.append({v.key: v.value for v in message.status[0].values} | {"": message.status[0]})

    def close(self):
        self._executor.shutdown()
        self._thread.join(10)
        self.node.destroy_node()

    def wait(self, condition, what, timeout=120.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"timed out: {what}"
            time.sleep(0.005)

    def connect(self):
        """Wait until both ends know each other."""
        self.wait(lambda: self.publisher.get_subscription_count() > 0, "the node subscribes to the camera")
        for topic in ("mask", "timing"):
            self.wait(lambda t=topic: self.node.count_publishers(f"{self.name}/{t}") > 0, f"the node publishes {topic}")
        self.wait(lambda: self.diagnostics, "the node knows who listens")
        return self

    def send(self, message):
        """Publish with the next stamp; returns the stamp."""
        self.stamp += 1
        message.header.stamp.sec, message.header.stamp.nanosec = 1000 + self.stamp, self.stamp
        message.header.frame_id = f"camera_{self.stamp % 3}"
        self.publisher.publish(message)
        return (1000 + self.stamp, self.stamp)

    def segment(self, message):
        """Send a frame and wait for its record, and for its mask if it was masked.

        A best-effort frame may be lost in transport; that is not what is tested, so it is sent again.
        """
        for _ in range(5):
            key = self.send(message)
            with contextlib.suppress(AssertionError):
                self.wait(lambda k=key: k in self.records, "record", timeout=20)
                break
        else:
            raise AssertionError("none of five frames has a record")
        record = self.records[key]
        if record.status[0].message == Outcome.MASKED.value:
            self.wait(lambda: key in self.masks, "mask")
        return record, self.masks.get(key)

    def call(self, service_type, request):
        client = self._clients[service_type]
        self.wait(client.service_is_ready, f"{client.srv_name} is offered")
        self.wait(lambda: self.diagnostics, "the node knows who asks")
        future = client.call_async(request)
        self.wait(future.done, f"answer of {client.srv_name}", timeout=120)
        return future.result()

    def change_state(self, transition):
        return self.call(ChangeState, ChangeState.Request(transition=Transition(id=transition))).success

    def state(self):
        return self.call(GetState, GetState.Request()).current_state.label

    def set(self, name, value):
        kinds = {
            str: (ParameterType.PARAMETER_STRING, "string_value"),
            float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
            bool: (ParameterType.PARAMETER_BOOL, "bool_value"),
            int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
            list: (ParameterType.PARAMETER_INTEGER_ARRAY, "integer_array_value"),
        }
        kind, field = kinds[type(value)]
        parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
        return self.call(SetParameters, SetParameters.Request(parameters=[parameter])).results[0]
