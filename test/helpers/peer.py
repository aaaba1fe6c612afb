"""A node of a test that hears and says what the test wants."""

import threading
import time
from collections.abc import Callable


class Peer:
    """A node of the test with a thread that spins; it keeps what it hears by topic."""

    def __init__(self, ros):
        from rclpy.executors import SingleThreadedExecutor

        self.node = ros.create_node(f"peer_{time.monotonic_ns()}")
        self.heard: dict[str, list] = {}
        self._subscriptions: dict[str, object] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def hear(self, kind: type, topic: str) -> None:
        self.heard[topic] = []
        self._subscriptions[topic] = self.node.create_subscription(kind, topic, self.heard[topic].append, 100)

    def ignore(self, topic: str) -> None:
        self.node.destroy_subscription(self._subscriptions.pop(topic))

    def publisher(self, kind: type, topic: str):
        return self.node.create_publisher(kind, topic, 10)

    def until(self, condition: Callable[[], object], what: str, timeout: float = 90.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    def counts(self, name: str) -> dict[str, str]:
        """Values of the newest diagnostics of a node."""
        found = [s for m in self.heard["/diagnostics"] for s in m.status if s.name.startswith(f"{name}: ")]
        return {pair.key: pair.value for pair in found[-1].values} | {"": found[-1].message} if found else {}

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self.node.destroy_node()
