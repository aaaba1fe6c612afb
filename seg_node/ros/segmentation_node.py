"""The segmentation node: parameters, transitions and reports; what masks frames is ``seg_node.ros.masking``."""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from seg_node.core.engines import Engine
from seg_node.core.health import Expected, Signs
from seg_node.core.memory import hand_back_free_memory
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.ros.autostart import Autostart
from seg_node.ros.cameras.names import CameraName, camera_specs, misplaced
from seg_node.ros.cameras.stream import expected
from seg_node.ros.label_info import LabelInfo
from seg_node.ros.masking import Masking
from seg_node.ros.node_model import NodeModel
from seg_node.ros.parameters import check, declare_parameters, refusal, serve_parameters
from seg_node.ros.process import run_node
from seg_node.ros.profile import NodeProfile
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.reporter import Reporter
from seg_node.ros.transfer.path import state_reader
from seg_node.ros.watchdog import Bond, Watchdog

STOP_TIMEOUT = 10.0
"""Seconds that deactivation waits for the frames that are pending."""
_END_TIMEOUT = 2.0
"""The same where the process ends."""


class SegmentationNode(LifecycleNode):
    """Masks the topics of one camera or of several; see the README for topics and parameters."""

    # Of the class: rclpy destroys a node whose constructor has raised, too.
    _masking: Masking | None = None

    def __init__(self):
        super().__init__("segmentation")
        self._profile = NodeProfile(self)
        self._specs = declare_parameters(self, self._profile.specs, lambda: camera_specs(self))
        self._profile.tell()
        self._names = list(self._value("cameras"))
        self._label_info = LabelInfo(self)
        # A node without names has one camera without a name.
        self._cameras = [(CameraName(self, name), QosWatch(self)) for name in self._names or [""]]
        self._trouble = self._topic = ""
        self._ending = False
        self._lost: list[InferenceWorker] = []
        self._reporter = Reporter(self, self._signs)
        # What can take long is served beside the clock and the other services; no transition comes in between another.
        self._transitions = threading.Lock()
        leading, setting = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._model = NodeModel(self, setting, self._swap)
        self._gave_up = self.create_guard_condition(self._on_gave_up, callback_group=leading)
        initial = (check(self.get_parameter(name), "unconfigured", self._specs) for name in self._specs)
        if problems := [problem for problem in initial if problem]:
            raise ValueError("; ".join(problems))
        self.add_on_set_parameters_callback(self._on_parameters)
        self.add_post_set_parameters_callback(self._on_set)
        self._autostart = Autostart(self, leading, self._transitions, self._stuck_for_good)
        serve_parameters(self, setting)
        asked = self._autostart.hand_over
        self._state_reader = state_reader(self, ReentrantCallbackGroup(), self._transitions, asked)
        self._watchdog = Watchdog(self, self._is_up, lambda: self.wrong or self._autostart.text())
        self._bond = Bond(self)

    def _value(self, name: str):
        return self.get_parameter(name).value

    @property
    def state(self) -> str:
        """Label of the lifecycle state."""
        return self._state_reader()

    @property
    def wrong(self) -> str:
        """What keeps the node from masking; empty if nothing does."""
        return self._masking.trouble if self._masking else self._trouble

    @property
    def starting(self) -> bool:
        """See ``run_node``."""
        return self._autostart.starting

    @property
    def unfinished(self) -> bool:
        """See ``run_node``."""
        return self._model.working or self._stuck_for_good() > 0

    def prepare_to_end(self) -> None:
        """See ``run_node``."""
        self._ending = True
        self._watchdog.stopping()
        self._autostart.hand_over()
        self._model.close()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, compile and warm up; FAILURE if the bundle or the engine refuses."""
        try:
            engine = self._model.load([tuple(name.value("warm_up_size")) for name, _ in self._cameras])
            self._masking = Masking(self, self._cameras, engine, self._gave_up.trigger)
            self._label_info.tell(engine.bundle.manifest.taxonomy)
        except Exception as error:
            # Whatever an engine's library raises, a supervisor may configure again with another model.
            if not self._ending:
                self._trouble = f"cannot configure: {error}"
                self.get_logger().error(self._trouble)
            self._free()
            # Those of a part that was not made to its end.
            for _, qos in self._cameras:
                qos.withdraw()
            return TransitionCallbackReturn.FAILURE
        self._masking.refresh()
        self._trouble = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera; FAILURE while an inference of before has not returned."""
        if not self._masking.start():
            self.get_logger().error("an inference has not returned yet; clean up and configure to load the model anew")
            return TransitionCallbackReturn.FAILURE
        super().on_activate(state)
        self._masking.subscribe()
        self._topic = self._masking.topic
        self._bond.form()
        self.get_logger().info(f"active on {self._topic}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then finish what is pending while the publishers are still active."""
        self._bond.break_off()
        if not self._masking.stop(STOP_TIMEOUT):
            self.get_logger().error("an inference has not returned; clean up and configure to load the model anew")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._free()
        hand_back_free_memory()
        if not self._autostart.leading:
            self._trouble = ""
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        if state.label == "active":
            self.on_deactivate(state)
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an unforeseen error, so that a supervisor can try again."""
        self._trouble = f"an error in a transition from {state.label}"
        self.get_logger().error(f"{self._trouble}; back to unconfigured")
        return self.on_shutdown(state)

    def destroy_node(self) -> None:
        """See ``rclpy.node.Node``; the process may end while the node is active.

        Threads that go on until the process ends keep the node's handle, and with it the participant: Fast DDS of
        Kilted then leaves its shared memory behind, 70 MB for each node that was interrupted.
        """
        if self._masking:
            self._bond.break_off()
            self._free(_END_TIMEOUT)
        super().destroy_node()

    def _free(self, timeout: float = 0.0) -> None:
        self._model.close()
        masking, self._masking = self._masking, None
        if masking and not masking.destroy(timeout):
            self._lost.append(masking.worker)

    def _stuck_for_good(self) -> int:
        """Number of inferences that have not returned although their model was freed."""
        self._lost = [worker for worker in self._lost if worker.stuck]
        return len(self._lost)

    def _is_up(self) -> bool:
        return self.state == "active" or not self._value("autostart")

    def _on_gave_up(self) -> None:
        """Deactivate, so that a supervisor sees it; only a thread of the executor may do that."""
        with self._transitions:
            if self.state == "active" and self._masking.worker.given_up:
                self._trouble = self._masking.worker.given_up
                self.get_logger().error(f"deactivating: {self._trouble}")
                self.trigger_deactivate()
                self._autostart.gave_up()

    def _swap(self, engine: Engine) -> None:
        if masking := self._masking:
            self._label_info.tell(engine.bundle.manifest.taxonomy)
            masking.swap(engine)

    def _on_parameters(self, parameters: list[Parameter]):
        if self._model.taking_back:
            return refusal("")
        for parameter in parameters:
            reason = misplaced(parameter.name, self._names) or check(parameter, self.state, self._specs)
            if reason:
                return refusal(reason)
        new = {parameter.name: parameter.value for parameter in parameters}
        masking = self._masking
        if masking is None or "model" not in new:
            return refusal("")
        if masking.worker.stuck:
            return refusal("the model is stuck in an inference; deactivate, clean up and configure anew")
        return refusal(self._model.change(new["model"], masking.sizes))

    def _on_set(self, parameters: list[Parameter]) -> None:
        if masking := self._masking:
            masking.set({parameter.name: parameter.value for parameter in parameters})

    def _signs(self) -> dict[str, tuple[Signs, Expected]]:
        """What the node's report is judged by, and those of its cameras where it has several."""
        name = self.get_fully_qualified_name()
        values = self._autostart.status() | self._model.status() | self._profile.status()
        warnings = [*self._model.warnings(), *self._profile.warnings()]
        trouble = "; ".join(filter(None, (self.wrong, self._autostart.text())))
        masking = self._masking
        if masking and not self._names:
            found = masking.signs(self.state, values, trouble, warnings)
            drifted = self._drifted(found)
            return {
                of: (replace(signs, warnings=[*signs.warnings, *drifted]), asked)
                for of, (signs, asked) in found.items()
            }
        asked = Expected() if self._names else expected(self._cameras[0][0])
        values |= masking.totals() if masking else {}
        found = masking.signs(self.state, {}, trouble, []) if masking else {}
        warnings += self._drifted(found)
        return {name: (Signs(self.state, values, trouble, warnings, self._topic, self._topic), asked)} | found

    def _drifted(self, found: Mapping[str, tuple[Signs, Expected]]) -> list[str]:
        return self._profile.drifted([signs.values for signs, _ in found.values()], time.monotonic())


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit status."""
    # One for each group of callbacks, and one for a transition that is refused during another; frames have their own.
    return run_node(SegmentationNode, "segmentation", 6, arguments)
