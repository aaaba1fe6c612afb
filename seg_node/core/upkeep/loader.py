"""Models that are loaded beside the one that runs: a thread that nobody has to wait for."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from seg_node.core.engines import Engine
from seg_node.core.errors import RunError

Use = Callable[[Engine], None]


@dataclass(eq=False)
class _Load:
    model: str
    make: Callable[[], Engine]
    use: Use
    began: float = field(default_factory=time.monotonic)
    took: float | None = None
    """Seconds from the request to its end; None before."""
    refusal: str = ""


class ModelLoader:
    """Loads one model after the other in a thread that lives while there is something to load.

    The newest request counts: one that waits for its turn is forgotten when another comes, and of one that is being
    loaded the result is. A library that compiles cannot be interrupted, so a loader that is closed leaves its thread
    behind and whoever needs one makes another.

    Args:
        refused: told the model and the reason when the newest request fails; called by the loader's thread.
    """

    def __init__(self, refused: Callable[[str, str], None] = lambda model, reason: None):
        self._refused = refused
        self._condition = threading.Condition()
        self._waiting: _Load | None = None
        self._newest: _Load | None = None
        self._working = self._closed = False

    @property
    def busy(self) -> bool:
        """Whether there is something to load whose end still counts."""
        return self._working and not self._closed

    @property
    def working(self) -> bool:
        """Whether its thread is in a library, be it for a result that nobody wants any more."""
        return self._working

    def begin(self, model: str, make: Callable[[], Engine], use: Use) -> None:
        """Load a model; returns at once.

        Args:
            model: its name, for people.
            make: makes the engine, warmed up; whatever it raises is the reason of a refusal.
            use: takes the engine over, unless another request has come or the loader was closed; called by the
                loader's thread.
        """
        with self._condition:
            self._waiting = self._newest = _Load(model, make, use)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="model loader", daemon=True).start()

    def load(self, model: str, make: Callable[[], Engine]) -> Engine:
        """Load a model and wait for it.

        Raises:
            RunError: it cannot be loaded, with the reason; or the loader was closed meanwhile.
        """
        made: list[Engine] = []
        self.begin(model, make, made.append)
        with self._condition:
            load = self._newest
            self._condition.wait_for(lambda: load.took is not None or self._closed or self._newest is not load)
        if made:
            return made[0]
        raise RunError(load.refusal or f"the loading of {model} was abandoned")

    def close(self) -> None:
        """Forget what is loading; once this returns, nothing is taken over or refused any more."""
        with self._condition:
            self._closed, self._waiting = True, None
            self._condition.notify_all()

    def status(self) -> dict[str, str]:
        """Values for diagnostics.

        Returns:
            ``load.model``, what was asked for last; ``load.state``, ``loading``, ``loaded`` or ``refused``;
            ``load.seconds`` from the request until its end, or until now; ``load.reason`` of a refusal. Empty before
            the first request.
        """
        with self._condition:
            load = self._newest
        if load is None:
            return {}
        state = "loading" if load.took is None else "refused" if load.refusal else "loaded"
        took = time.monotonic() - load.began if load.took is None else load.took
        values = {"load.model": load.model, "load.state": state, "load.seconds": f"{took:.1f}"}
        return values | ({"load.reason": load.refusal} if load.refusal else {})

    def _work(self) -> None:
        while (load := self._next()) is not None:
            engine, refusal = None, ""
            try:
                engine = load.make()
            except Exception as error:
                # Whatever an engine's library raises: the model that runs is not touched.
                refusal = str(error) or type(error).__name__
            with self._condition:
                if self._closed or load is not self._newest:
                    continue
                if engine is not None:
                    load.use(engine)
                load.took, load.refusal = time.monotonic() - load.began, refusal
                # Neither this frame nor the next wait keeps the engine alive beyond its use.
                del engine
                self._condition.notify_all()
            if refusal:
                self._refused(load.model, refusal)

    def _next(self) -> _Load | None:
        with self._condition:
            load, self._waiting = self._waiting, None
            self._working = load is not None
            return load
