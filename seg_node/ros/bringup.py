"""What the launch files work out of their arguments, without ``launch``: values, names, and what RViz is to show."""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.errors import UserError

BOOLEANS = ["", "true", "false", "True", "False"]
"""What an argument may be that is a truth value, or left to the params file."""

DEFAULT_NAME = "segmentation"
"""Name of a segmentation node that was given none, after which its overlay node looks for topics."""

DEFAULT_TRANSPORT = "raw"
"""``image_transport`` where neither argument nor params file say."""

FOLLOWED = ("mask", "timing", "mask_now", "timing_now", "overlay", "camera_info")
"""Topics below the segmentation node's name to which the overlay node subscribes, or which it publishes there."""

_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its profile, up to ROS 2 Jazzy and since Kilted."""


def profile_environment(profile: str) -> dict[str, str]:
    """Environment variables that load a Fast DDS profile; none where the user has set one of them."""
    if not profile or any(os.environ.get(variable) for variable in _PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(_PROFILE_VARIABLES, profile)


def absolute(name: str, namespace: str) -> str:
    """Full name of a topic, node or namespace that is relative to a namespace, which need not begin with a slash."""
    parts = name.split("/") if name.startswith("/") else [*namespace.split("/"), *name.split("/")]
    return "/" + "/".join(filter(None, parts))


def camera_topic(image: str, transport: str) -> str:
    """The topic that carries the images of a camera: RViz and ``image_transport`` take the transport from its name."""
    return f"{image}/compressed" if transport == "compressed" else image


def listed(text: str) -> list[str]:
    """Names in an argument such as ``[front,left]``, with or without brackets and quotes; none of an empty one.

    Raises:
        UserError: it is no list of names.
    """
    inside = text.strip().removeprefix("[").removesuffix("]").strip()
    names = [name.strip().strip("'\"") for name in inside.split(",")] if inside else []
    if wrong := [name for name in names if not re.fullmatch(r"\w+", name)]:
        raise UserError(f"cameras is {text!r}, in which {wrong[0]!r} is no name; expected a list such as [front,left]")
    return names


def camera_remappings(image: str, cameras: Sequence[str]) -> list[tuple[str, str]]:
    """What the topics of a segmentation node's cameras are remapped to.

    Args:
        image: name of the camera's topic; with several cameras, below the name of each.
        cameras: their names; none for one camera without a name.

    Raises:
        UserError: the topic is absolute, and so cannot be below several names.
    """
    if cameras and image.startswith("/"):
        raise UserError(
            f"image is {image!r}, one topic for several cameras; expected its name below each, such as image"
        )
    topics = [(f"{name}/image", f"{name}/{image}") for name in cameras] or [("image", image)]
    return [(f"{ours}{end}", f"{theirs}{end}") for ours, theirs in topics for end in ("", "/compressed")]


def below_camera(topic: str, camera: str) -> str:
    """Name of a topic for whoever follows a segmentation node, or one of its several cameras.

    Args:
        topic: as it is with one camera: ``image`` of the camera, ``segmentation/mask`` or ``segmentation`` of the node.
        camera: name of one of several; empty for one.

    Returns:
        ``front/image`` or ``segmentation/front/mask``, where the camera is ``front``.
    """
    if not camera:
        return topic
    own, _, below = topic.partition("/")
    return "/".join(filter(None, (own, camera, below))) if own == DEFAULT_NAME else f"{camera}/{topic}"


def stated_cameras(cameras: str, params_file: str, node: str) -> list[str]:
    """Names of a node's several cameras, of the argument or else of its params file; none for one without a name.

    Args:
        cameras: the argument; see ``listed``.
        params_file: see ``parameter_in_file``.
        node: full name of the node.

    Raises:
        UserError: the argument is no list of names, or the file cannot be read.
    """
    return listed(cameras) or list(parameter_in_file(params_file, node, "cameras") or [])


def shown_camera(camera: str, cameras: Sequence[str]) -> str:
    """Which camera is shown: the one that is asked for, or else the first; empty where none has a name.

    Raises:
        UserError: there is none of that name.
    """
    if camera and camera not in cameras:
        names = f"the cameras are {', '.join(cameras)}" if cameras else "cameras names none"
        raise UserError(f"camera is {camera!r}, but {names}")
    return camera or next(iter(cameras), "")


def viewer_remappings(image: str, name: str, camera_info: str, camera: str = "") -> list[tuple[str, str]]:
    """What the topics of an overlay node are remapped to.

    Args:
        image: name of the camera's topic; with several cameras, below the name of each.
        name: of the segmentation node.
        camera_info: calibration topic; empty for the one beside the camera's.
        camera: name of one of several cameras; empty for one.
    """
    topic, node = below_camera(image, camera), "/".join(filter(None, (name, camera)))
    return [
        (below_camera("image", camera), topic),
        (below_camera("image/compressed", camera), f"{topic}/compressed"),
        (below_camera("camera_info", camera), camera_info or camera_info_topic(topic)),
        *((below_camera(f"{DEFAULT_NAME}/{followed}", camera), f"{node}/{followed}") for followed in FOLLOWED),
    ]


def camera_info_topic(image: str) -> str:
    """The topic beside an image topic where its calibration is looked for."""
    return "/".join([*image.split("/")[:-1], "camera_info"])


def overlay_name(node: str) -> str:
    """Name of the overlay node of a segmentation node; one of its own where several share a namespace."""
    return "overlay" if node == DEFAULT_NAME else f"{node}_overlay"


def parameter_in_file(file: str, node: str, parameter: str) -> Any:
    """Value that a params file gives a parameter of a node.

    Args:
        file: path of the file; empty for none.
        node: full name of the node.
        parameter: its name.

    Returns:
        The value; None where the file gives none.

    Raises:
        UserError: the file cannot be read.
    """
    if not file:
        return None
    try:
        document = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"params_file is {file!r}, which cannot be read: {error}") from error
    value = None
    # rclpy goes through the file and has the later one win.
    for pattern, parameters in _sections(document, ""):
        if _matches(pattern, node) and (found := _named(parameters, parameter)) is not None:
            value = found
    return value


def _named(parameters: Mapping[str, Any], name: str) -> Any:
    """Value of a parameter, such as ``front.max_age_ms``, whose parts may be nested; None where there is none."""
    if name in parameters:
        return parameters[name]
    nested = ((key, inside) for key, inside in parameters.items() if isinstance(inside, Mapping))
    below = (_named(inside, name.removeprefix(f"{key}.")) for key, inside in nested if name.startswith(f"{key}."))
    return next((value for value in below if value is not None), None)


def _sections(document: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names or patterns of nodes in a params file, and what it gives them."""
    if isinstance(document, Mapping):
        for key, inside in document.items():
            if key != "ros__parameters":
                yield from _sections(inside, f"{path}/{str(key).strip('/')}")
            elif isinstance(inside, Mapping):
                yield path, inside


def _matches(pattern: str, node: str) -> bool:
    """Whether a node's full name fits a pattern, in which * stands for one part of a name and ** for any number."""
    # A part with its slash, for ** may stand for none at all.
    parts = {"**": r"(/[^/]+)*", "*": r"/[^/]+"}
    expression = "".join(parts.get(part, "/" + re.escape(part)) for part in pattern.split("/") if part)
    return re.fullmatch(expression, node) is not None


def first_given(*values: Any) -> Any:
    """The first value that is given: neither None nor empty; None where there is none."""
    return next((value for value in values if value not in (None, "")), None)


def is_true(value: bool | str) -> bool:
    """Truth of an argument, or of a value in a params file."""
    return str(value).lower() == "true"


def rviz_config(shipped: Mapping[str, Any], camera: str, node: str, frame: str, source: str = "mask") -> dict[str, Any]:
    """What RViz is to show of one camera and one segmentation node.

    Args:
        shipped: ``config/segmentation.rviz``, which shows /image and a node /segmentation.
        camera: full name of the topic that carries the images; see ``camera_topic``.
        node: full name of the segmentation node.
        frame: fixed frame.
        source: topic below the node's name whose masks are shown, ``mask`` or ``mask_now``.
    """
    config = copy.deepcopy(dict(shipped))
    manager = config["Visualization Manager"]
    manager["Global Options"]["Fixed Frame"] = frame
    for display in manager["Displays"]:
        topic = display["Topic"]["Value"]
        below = topic.removeprefix(f"/{DEFAULT_NAME}/")
        shown = source if below == "mask" else below
        display["Topic"]["Value"] = camera if topic == "/image" else f"{node}/{shown}"
    return config
