"""All that a configured node has: the engine's worker, and the cameras whose frames it masks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode

from seg_node.core.engines import Engine
from seg_node.core.health import Expected, Signs
from seg_node.core.propagation.budget import Budget
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.ros.cameras.names import CameraName
from seg_node.ros.cameras.stream import CameraStream, expected
from seg_node.ros.parameters import BUDGET, LIMITS, PROPAGATION, WORKER_LIMITS
from seg_node.ros.qos_watch import QosWatch


class Masking:
    """It lives from a configuration until it is cleaned up.

    Args:
        node: whose topics and parameters they are.
        cameras: names, and what offers the publishers of each; one without a name is the only one.
        engine: warmed up.
        gave_up: called once after each start when too many frames in a row have failed, by any thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Sequence[tuple[CameraName, QosWatch]],
        engine: Engine,
        gave_up: Callable[[], None],
    ):
        self._node = node
        limits = {attribute: node.get_parameter(name).value for name, attribute in WORKER_LIMITS.items()}
        self.worker = InferenceWorker(engine, **limits, gave_up=lambda _: gave_up())
        named = all(name.name for name, _ in cameras)
        self._budget = Budget(len(cameras), lambda: self.worker.lacks_cores) if named else None
        self.cameras = [CameraStream(name, qos, self.worker, self._budget) for name, qos in cameras]

    @property
    def trouble(self) -> str:
        """What keeps the frames of all cameras from being masked, empty if nothing does."""
        return self.worker.trouble

    @property
    def topic(self) -> str:
        """Resolved names of the cameras' topics, once they were subscribed to."""
        return ", ".join(filter(None, (camera.topic for camera in self.cameras)))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each camera's frames."""
        return [camera.size for camera in self.cameras]

    def start(self) -> bool:
        """Begin to work on frames; False while an inference of before has not returned."""
        return self.worker.start()

    def subscribe(self) -> None:
        """Begin to take the cameras' frames."""
        for camera in self.cameras:
            camera.subscribe()

    def stop(self, timeout: float) -> bool:
        """Unsubscribe, and finish what is pending; returns whether the worker ended within ``timeout`` seconds."""
        for camera in self.cameras:
            camera.unsubscribe()
        ended = self.worker.stop(timeout)
        for camera in self.cameras:
            camera.stop()
        return ended

    def destroy(self, timeout: float = 0.0) -> bool:
        """Stop where that was not done, and take the topics back; returns what ``stop`` does."""
        ended = self.stop(timeout)
        for camera in self.cameras:
            camera.destroy()
        return ended

    def set(self, parameters: Mapping[str, Any]) -> None:
        """Take new values, by full name, of those parameters that concern it."""
        for name in WORKER_LIMITS.keys() & parameters.keys():
            setattr(self.worker, WORKER_LIMITS[name], parameters[name])
        for name in BUDGET.keys() & parameters.keys():
            setattr(self._budget, BUDGET[name], parameters[name])
        for camera in self.cameras:
            camera.set(parameters)

    def refresh(self) -> None:
        """Take what was set while it was made."""
        names = [*WORKER_LIMITS, *(BUDGET if self._budget else ())]
        self.set({name: self._node.get_parameter(name).value for name in names})
        for camera in self.cameras:
            names = (*LIMITS, *PROPAGATION)
            camera.set({camera.name.parameter(name): camera.name.value(name) for name in names})

    def swap(self, engine: Engine) -> None:
        """Have another engine, which is warmed up, mask from the next frame on; from any thread."""
        self.worker.engine = engine
        for camera in self.cameras:
            camera.reset(f"the model was swapped for {engine.bundle.name}")

    def totals(self) -> dict[str, str]:
        """Values for diagnostics of all cameras together: ``model``, and ``total.`` before each count."""
        counts = Counter()
        for camera in self.cameras:
            counts.update(camera.counts())
        return {"model": self.worker.engine.bundle.name} | {f"total.{name}": str(n) for name, n in counts.items()}

    def signs(
        self, state: str, values: Mapping[str, str], trouble: str, warnings: Sequence[str]
    ) -> dict[str, tuple[Signs, Expected]]:
        """What the reports of the cameras are judged by, by what their topics begin with.

        Args:
            state: the node's lifecycle state.
            values: what else is known of the node.
            trouble: what keeps the node from masking; empty if nothing does.
            warnings: what a person should look at.
        """
        return {
            camera.name.full_name: (camera.signs(state, values, trouble, warnings), expected(camera.name))
            for camera in self.cameras
        }
