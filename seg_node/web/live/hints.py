"""Why nothing is to be seen, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass

SILENT_S = 3.0
"""Seconds without news after which something is wrong: diagnostics come once a second."""


@dataclass(frozen=True)
class Situation:
    """What is known of the node and of its surroundings."""

    node: str
    """Its full name."""
    domain: str
    """ROS_DOMAIN_ID of this process."""
    starting: bool
    """Whether this process has started the node, and it is not up yet."""
    status: str | None
    """Message of its newest diagnostics, the lifecycle state first; None where none came lately."""
    camera: str
    """Topic from which it takes images; empty where it subscribes to none."""
    publishers: int = 0
    """Publishers of that topic."""
    mismatches: Sequence[str] = ()
    """Publishers of that topic whose QoS does not fit, and why."""
    others: Sequence[str] = ()
    """Other image topics that somebody publishes."""
    since_record: float = 0.0
    """Seconds without a frame that came to its end in the node."""
    since_mask: float = 0.0
    """Seconds without a mask."""
    last_drop: str = ""
    """Reason of the newest drop."""
    pictures_missing: bool = False
    """Whether masks come and are looked at, but camera images do not reach this process."""


def explain(now: Situation) -> str:
    """Say why there is nothing to see and what to do; empty where all is well."""
    state = (now.status or "").partition(":")[0]
    if now.starting or state in ("configuring", "activating"):
        return f"{now.node} is starting: it loads and compiles its model, which may take a minute."
    if now.status is None:
        return (
            f"Nothing is heard of {now.node}. Is it running, under this name, with ROS_DOMAIN_ID={now.domain}? On"
            " another machine, multicast has to get through, and ROS_AUTOMATIC_DISCOVERY_RANGE must not be LOCALHOST."
        )
    if state != "active":
        step = "activate" if state == "inactive" else "configure"
        way = f"{now.node} {step}"
        return f"{now.node} is {now.status}. Try: seg_node lifecycle {way}, or ros2 lifecycle set {way}"
    if now.since_record > SILENT_S:
        return _no_frames(now)
    if now.since_mask > SILENT_S:
        more = {
            "stale": "The stamps are older than max_age_ms: a bag needs use_sim_time with --clock, or max_age_ms 0.",
            "undecodable": "The diagnostics say why they cannot be decoded; mind the camera's encoding.",
            "failed": "Inference fails; the diagnostics and the node's log say why.",
            "superseded": "The model is busy with one frame; see the node's log if that lasts.",
        }
        return f"Frames reach {now.node} but none is masked, they are {now.last_drop}. {more.get(now.last_drop, '')}"
    if now.pictures_missing:
        return (
            f"Masks come, but the images of {now.camera} do not reach this page. Camera-sized messages are lost with"
            " the defaults of Fast DDS: start the camera with FASTRTPS_DEFAULT_PROFILES_FILE naming fastdds_shm.xml."
        )
    return ""


def _no_frames(now: Situation) -> str:
    if not now.camera:
        return f"{now.node} is active but subscribes to no image topic."
    if now.mismatches:
        return f"The QoS of {now.camera} does not fit: {'; '.join(now.mismatches)}. See the node's qos_overrides."
    if now.publishers:
        return (
            f"{now.camera} has a publisher, but no frame arrives. Does the camera send? Large messages are lost with"
            " the defaults of Fast DDS: start the camera with FASTRTPS_DEFAULT_PROFILES_FILE naming fastdds_shm.xml."
        )
    others = f" There is {', '.join(now.others)}: remap image, or set image_transport." if now.others else ""
    return f"Nobody publishes {now.camera}, from which {now.node} takes its images.{others}"
