"""The model of a node: loaded beside its services, and swapped when the parameter ``model`` is set."""

from collections.abc import Callable, Sequence
from functools import partial

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_node.core.bundle import load_bundle
from seg_node.core.engines import Engine, create_engine
from seg_node.core.memory import hand_back_free_memory
from seg_node.core.upkeep.loader import ModelLoader

Size = tuple[int, int]


class NodeModel:
    """Loads what the parameters of a node name, in a thread of its own.

    Args:
        node: whose parameters hold.
        group: of the services that set parameters: nothing is set while a refused model is taken back.
        swap: takes over the engine of a model that was set; called by another thread than the executor's.
    """

    def __init__(self, node: Node, group: CallbackGroup, swap: Callable[[Engine], None]):
        self._node = node
        self._swap = swap
        self._loader = ModelLoader()
        self._take_back = node.create_guard_condition(self._on_take_back, callback_group=group)
        self._runs = ""
        """Value of the parameter that the running engine was made of; empty while there is none."""
        self._refusal = ""
        self.taking_back = False
        """Whether the parameter is just being set to the model that runs: nothing is to be loaded then."""

    @property
    def working(self) -> bool:
        """Whether a library is loading or compiling, which cannot be interrupted."""
        return self._loader.working

    def load(self, sizes: Sequence[Size]) -> Engine:
        """Load what the parameters say and wait for it.

        Args:
            sizes: (height, width) in pixels to warm up for.

        Raises:
            RunError: it cannot be loaded, with the reason; or ``close`` was called meanwhile.
        """
        self._loader, self._refusal = ModelLoader(self._on_refused), ""
        model = self._value("model")
        engine = self._loader.load(model, lambda: self._make(lambda: load_bundle(model), sizes))
        self._runs = model
        return engine

    def change(self, model: str, sizes: Sequence[Size]) -> str:
        """Check a bundle, and begin to load it beside the one that runs.

        Args:
            model: value of the parameter.
            sizes: see ``load``.

        Returns:
            Why the bundle is refused; empty where its loading has begun.
        """
        try:
            bundle = load_bundle(model)
        except Exception as error:
            # Whatever is wrong with a bundle, the model that runs is not touched.
            return str(error)
        self._node.get_logger().info(f"loading {model} beside {self._runs}")
        self._loader.begin(model, lambda: self._make(lambda: bundle, sizes), partial(self._use, model))
        return ""

    def close(self) -> None:
        """Forget the model, and what is loading."""
        self._loader.close()
        self._runs = self._refusal = ""

    def status(self) -> dict[str, str]:
        """Values for diagnostics; see ``ModelLoader.status``."""
        return self._loader.status()

    def warnings(self) -> list[str]:
        """What a person should look at: a model that was set and could not be loaded, until another one is."""
        return [self._refusal] if self._refusal else []

    def _value(self, name: str):
        return self._node.get_parameter(name).value

    def _make(self, bundle: Callable, sizes: Sequence[Size]) -> Engine:
        # Of the model that was replaced last: it lived on until its last frame was masked.
        hand_back_free_memory()
        settings = (self._value(name) for name in ("engine", "threads", "precision"))
        input_size = tuple(self._value("input_size"))
        # Without a model that runs, nothing has to go on meanwhile, and the start is sooner in this process.
        aside = bool(self._runs)
        engine = create_engine(bundle(), *settings, input_size if any(input_size) else None, aside=aside)
        if len(sizes) > 1:
            engine.serve(len(sizes))
        # A frame of each size, with its confidence and without.
        engine.sizes_kept = max(engine.sizes_kept, 2 * len(sizes))
        for size in dict.fromkeys(sizes):
            engine.warm_up(size)
        self._node.get_logger().info(f"{engine.bundle.name} on {engine.name} ({engine.device}): {engine.reason}")
        return engine

    def _use(self, model: str, engine: Engine) -> None:
        self._runs, self._refusal = model, ""
        self._swap(engine)

    def _on_refused(self, model: str, reason: str) -> None:
        if self._runs:
            self._refusal = f"{model} was set, but cannot be loaded: {reason}; {self._runs} goes on"
            self._node.get_logger().error(self._refusal)
            self._take_back.trigger()

    def _on_take_back(self) -> None:
        """Let the parameter say what runs, unless another model was set meanwhile."""
        if not self._runs or self._loader.busy or self._value("model") == self._runs:
            return
        self.taking_back = True
        try:
            self._node.set_parameters([Parameter("model", value=self._runs)])
        finally:
            self.taking_back = False
