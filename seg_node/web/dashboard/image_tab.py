"""One image: what is true, what two models say, where they differ, how sure they are, and how long they took."""

from dataclasses import dataclass

import cv2
import numpy as np
import streamlit as st

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.bags.reader import BagError
from seg_node.core.errors import UndecodableError
from seg_node.core.exif import photo_to_bgr
from seg_node.core.images import EncodedPixels
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_node.web.dashboard import pictures, tables
from seg_node.web.dashboard.maskers import Masked, Masker, MaskError
from seg_node.web.dashboard.widgets import show_table

_DRIVE, _SCENE, _UPLOAD = "A frame of the drive", "A made-up scene", "Your own image"

SCENES = [f"{light}, {weather}" for light in ("sun", "overcast", "dusk") for weather in ("dry", "rain", "fog")]
"""What the frames of ``rosbags/synthetic_scenes`` show, in order: different streets, of CamVid's size."""


@dataclass(frozen=True)
class Scene:
    """An image to mask."""

    data: bytes
    """JPEG or PNG file."""
    bgr: np.ndarray
    """uint8 [H, W, 3]."""
    truth: np.ndarray | None
    """uint8 [H, W], categories and 255 (no label); None where it is not known."""


def show(masker: Masker, models: list[str], drive: Drive | str, scenes: Drive | str) -> None:
    """Draw the tab.

    Args:
        masker: makes the masks.
        models: names of its models, at least one.
        drive: whose frames can be chosen, or why there are none.
        scenes: made-up ones, see ``SCENES``, or why there are none.
    """
    first, second, colours = st.columns(3)
    with first:
        source = st.radio("Image", [_DRIVE, _SCENE, _UPLOAD], horizontal=True, key="source")
    with second:
        chosen = [
            st.selectbox("First model", models),
            st.selectbox("Second model", models, min(1, len(models) - 1)),
        ]
    with colours:
        palette = pictures.PALETTES[st.radio("Colours", list(pictures.PALETTES), horizontal=True)]
        named = st.checkbox("Names in the masks", True, key="named")
    scene = _uploaded_scene() if source == _UPLOAD else _bag_scene(drive if source == _DRIVE else scenes, source)
    if scene is None:
        return
    names = list(dict.fromkeys(chosen))
    try:
        with st.spinner("Masking"):
            masked = {name: _mask(masker, scene.data, name) for name in names}
    except MaskError as error:
        st.error(str(error))
        return
    st.html(pictures.legend_html(palette))
    _panels(scene, masked, palette, named)
    _figures(scene, masked)


def _bag_scene(drive: Drive | str, source: str) -> Scene | None:
    if isinstance(drive, str):
        st.info(drive)
        return None
    last = len(drive.frames) - 1
    if source == _SCENE:
        number = SCENES.index(st.selectbox("Light and weather", SCENES, key="scene"))
    else:
        number = st.slider("Frame", 0, last, len(drive.frames) // 2, key="frame") if last else 0
    frame = drive.frames[number]
    bgr = decode(frame)
    if bgr is None:
        st.error(f"Frame {number} of {drive.path} cannot be decoded; choose another one.")
        return None
    compressed = isinstance(frame.image, EncodedPixels)
    data = frame.image.data.tobytes() if compressed else cv2.imencode(".png", bgr)[1].tobytes()
    try:
        truth = drive.masks.get(frame.stamp)
    except BagError as error:
        st.error(str(error))
        truth = None
    return Scene(data, bgr, truth)


def _uploaded_scene() -> Scene | None:
    left, right = st.columns(2)
    image = left.file_uploader("Image, JPEG or PNG", ["jpg", "jpeg", "png"], key="image")
    truth = right.file_uploader(
        "True mask, if there is one: PNG of categories 0 to 7, 255 unlabelled", "png", key="truth"
    )
    if image is None:
        st.info("Upload a road scene to see its masks.")
        return None
    try:
        bgr = photo_to_bgr(EncodedPixels(image.type, image.getvalue()))
        return Scene(image.getvalue(), bgr, _checked_truth(truth.getvalue(), bgr.shape[:2]) if truth else None)
    except (UndecodableError, ValueError) as error:
        st.error(str(error))
        return None


def _checked_truth(data: bytes, size: tuple[int, int]) -> np.ndarray:
    truth = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if truth is None or truth.dtype != np.uint8 or truth.ndim != 2:
        raise ValueError("The true mask is no 8-bit picture with one channel; save category ids as a grey PNG.")
    if truth.shape != size:
        raise ValueError(f"The true mask is {truth.shape[1]}x{truth.shape[0]}, the image {size[1]}x{size[0]}.")
    if (unknown := truth[(truth > max(Category)) & (truth != NO_LABEL)]).size:
        raise ValueError(f"The true mask holds {unknown[0]}; expected 0 to {max(Category)}, or {NO_LABEL}.")
    return truth


@st.cache_data(show_spinner=False, max_entries=64)
def _mask(_masker: Masker, image: bytes, model: str) -> Masked:
    return _masker.mask(image, model)


def _panels(scene: Scene, masked: dict[str, Masked], palette: np.ndarray, named: bool) -> None:
    """Rows of pictures: what is common to the left, then a column for each model."""
    rows = [[pictures.figure_html(scene.bgr, "Image", "The image that is masked", ".jpg")]]
    for name, of in masked.items():
        alt = f"Mask of {name}: {pictures.in_words(of.mask)}"
        rows[0].append(pictures.figure_html(pictures.painted(of.mask, palette, named), f"Mask of {name}", alt))
    rows.append([_truth(scene, palette, named)])
    for name, of in masked.items():
        share = 100 * (of.confidence < 128).mean()
        alt = f"Confidence of {name}: mean {of.confidence.mean() / 2.55:.0f} %, {share:.1f} % of the pixels below half"
        title = f"Confidence of {name}, dark blue 0 to yellow 100 %; {share:.1f} % of the pixels below half"
        rows[1].append(pictures.figure_html(pictures.confidence_map(of.confidence), title, alt))
    rows.append([_disagreement(scene, masked)])
    if scene.truth is not None:
        labelled = scene.truth != NO_LABEL
        for name, of in masked.items():
            wrong = (of.mask != scene.truth) & labelled
            words = (
                f"Errors of {name} in orange: {100 * wrong.sum() / max(labelled.sum(), 1):.1f} % of the labelled pixels"
            )
            rows[2].append(pictures.figure_html(pictures.marked(scene.bgr, wrong), words, words, ".jpg"))
    for row in rows:
        for column, figure in zip(st.columns(1 + len(masked)), row, strict=False):
            column.html(figure)


def _truth(scene: Scene, palette: np.ndarray, named: bool) -> str:
    if scene.truth is None:
        return "<p>The true mask of this image is not known.</p>"
    alt = f"True mask: {pictures.in_words(scene.truth)}"
    return pictures.figure_html(pictures.painted(scene.truth, palette, named), "True mask", alt)


def _disagreement(scene: Scene, masked: dict[str, Masked]) -> str:
    if len(masked) < 2:
        return "<p>Choose two models to see where they disagree.</p>"
    one, other = masked.values()
    differs = one.mask != other.mask
    words = f"Disagreement in orange: {100 * differs.mean():.1f} % of the pixels"
    return pictures.figure_html(pictures.marked(scene.bgr, differs), words, words, ".jpg")


def _figures(scene: Scene, masked: dict[str, Masked]) -> None:
    latency = [[name, of.engine, f"{of.milliseconds:.0f}"] for name, of in masked.items()]
    show_table("Latency of one inference, confidence included", (["model", "engine", "ms"], latency))
    if scene.truth is not None:
        scored = tables.image_scores(scene.truth, {name: of.mask for name, of in masked.items()})
        show_table("This image against its true mask, percent", scored)
