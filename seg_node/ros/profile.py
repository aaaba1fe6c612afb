"""The profile of a node: defaults of its parameters as they were measured on this machine, while they hold."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rclpy.node import Node

from seg_node.core.profile.drift import LatencyWatch
from seg_node.core.profile.file import Profile, ProfileError, read_profile
from seg_node.core.profile.fit import misfit
from seg_node.ros.parameters import PARAMETERS, Spec, value_given

_OF_ONE_MODEL = ("engine", "precision", "input_size", "threads")
"""Settings that were measured with one model, and say nothing of another."""


class NodeProfile:
    """Reads the file that the parameter ``profile`` names, before the parameters are declared.

    A profile that cannot be used costs its settings and nothing else: the node runs with its defaults, and says so.

    Args:
        node: whose parameters are not declared yet.

    Attributes:
        specs: parameters to declare, with the profile's settings as defaults: what is given wins over them.
    """

    def __init__(self, node: Node):
        self._node = node
        self._path = str(value_given(node, "profile") or "")
        self._refusal = ""
        self._apart: list[str] = []
        """Names of settings that were given otherwise."""
        self._profile = self._read() if self._path else None
        settings = self._settings(self._profile.settings) if self._profile else {}
        self._watch = LatencyWatch(*self._profile.band) if self._profile else None
        self.specs: Mapping[str, Spec] = {
            name: dataclasses.replace(spec, default=settings.get(name, spec.default))
            for name, spec in PARAMETERS.items()
        }

    def _read(self) -> Profile | None:
        try:
            profile = read_profile(self._path)
        except ProfileError as error:
            self._refusal = str(error).removeprefix(f"{self._path}: ")
            return None
        self._refusal = misfit(profile)
        return None if self._refusal else profile

    def _settings(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value_given(self._node, name) for name in measured}
        self._apart = [name for name, value in given.items() if value is not None and value != measured[name]]
        left_out = _OF_ONE_MODEL if {"model", "engine"} & set(self._apart) else ()
        settings = {name: value for name, value in measured.items() if name not in left_out}
        # YAML may have written it without a point.
        return settings | {"forecast_ms": float(settings["forecast_ms"])}

    def tell(self) -> None:
        """Log what became of it."""
        for warning in self.warnings():
            self._node.get_logger().warning(warning)
        if self._profile:
            apart = f"; set otherwise: {', '.join(self._apart)}" if self._apart else ""
            self._node.get_logger().info(f"profile {self._path}: {self._profile.values['why']}{apart}")

    def status(self) -> dict[str, str]:
        """Values for diagnostics: ``profile``, its path, and ``profile.state``: used, used in part, or refused."""
        if not self._path:
            return {}
        state = "refused" if self._profile is None else "used in part" if self._apart else "used"
        return {"profile": self._path, "profile.state": state}

    def warnings(self) -> list[str]:
        """What a person should look at: a profile that was named and is not used."""
        if not self._refusal:
            return []
        advice = "the node runs with its defaults; `seg_node tune` measures a profile for this machine"
        return [f"the profile {self._path} is not used: {self._refusal}; {advice}"]

    def drifted(self, cameras: Sequence[Mapping[str, str]], at: float) -> list[str]:
        """What to say where inferences do not take as long as was measured.

        Args:
            cameras: values for diagnostics of each, see ``Segmenter.status``.
            at: seconds on a steady clock.
        """
        if self._profile is None or set(self._apart) & {"model", *_OF_ONE_MODEL}:
            return []
        measured = self._profile.settings
        runs = {
            "model": self._profile.bundle_name,
            "engine": measured["engine"],
            "precision": measured["precision"],
            "input_size": "x".join(map(str, measured["input_size"])),
        }
        # A model that was swapped in has no band that was measured.
        if any(values.get(name) != value for values in cameras for name, value in runs.items()):
            return []
        times = [float(values["inference"]) for values in cameras if "inference" in values]
        found = self._watch.look(statistics.fmean(times) if times else None, at)
        return [f"{found} ({self._path})"] if found else []
