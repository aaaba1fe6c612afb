"""One image: what is true, what two models say, where they differ, how sure they are, and how long they took."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import streamlit as st

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.bags.reader import BagError
from seg_node.core.errors import UndecodableError
from seg_node.core.exif import photo_to_bgr
from seg_node.core.images import EncodedPixels
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy
from seg_node.web.dashboard import pictures, tables
from seg_node.web.dashboard.maskers import Masked, Masker, MaskError, taxonomy_of
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
    taxonomy: Taxonomy = EIGHT
    """Categories of the true mask."""


def show(masker: Masker, models: Mapping[str, Mapping[str, Any]], drive: Drive | str, scenes: Drive | str) -> None:
    """Draw the tab.

    Args:
        masker: makes the masks.
        models: its models, at least one.
        drive: whose frames can be chosen, or why there are none.
        scenes: made-up ones, see ``SCENES``, or why there are none.
    """
    first, second, colours = st.columns(3)
    with first:
        source = st.radio("Image", [_DRIVE, _SCENE, _UPLOAD], horizontal=True, key="source")
    with second:
        chosen = [
            st.selectbox("First model", list(models)),
            st.selectbox("Second model", list(models), min(1, len(models) - 1)),
        ]
    with colours:
        eight = pictures.PALETTES[st.radio("Colours", list(pictures.PALETTES), horizontal=True)]
        named = st.checkbox("Names in the masks", True, key="named")
    names = list(dict.fromkeys(chosen))
    taxonomies = {name: _coloured(taxonomy_of(models[name]), eight) for name in names}
    if source == _UPLOAD:
        scene = _uploaded_scene(taxonomies[names[0]])
    else:
        scene = _bag_scene(drive if source == _DRIVE else scenes, source, eight)
    if scene is None:
        return
    try:
        with st.spinner("Masking"):
            masked = {name: _mask(masker, scene.data, name) for name in names}
    except MaskError as error:
        st.error(str(error))
        return
    for taxonomy in dict.fromkeys(taxonomies.values()):
        st.html(pictures.legend_html(taxonomy))
    _panels(scene, masked, taxonomies, named)
    _figures(scene, masked, taxonomies)


def _coloured(taxonomy: Taxonomy, eight: Taxonomy) -> Taxonomy:
    """The eight in the colours that were chosen for them; others as they are."""
    return eight if taxonomy.is_eight else taxonomy


def _bag_scene(drive: Drive | str, source: str, eight: Taxonomy) -> Scene | None:
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
    return Scene(data, bgr, truth, eight)


def _uploaded_scene(taxonomy: Taxonomy) -> Scene | None:
    left, right = st.columns(2)
    image = left.file_uploader("Image, JPEG or PNG", ["jpg", "jpeg", "png"], key="image")
    of = f"categories 0 to {len(taxonomy) - 1}"
    truth = right.file_uploader(f"True mask, if there is one: PNG of {of}, 255 unlabelled", "png", key="truth")
    if image is None:
        st.info("Upload a road scene to see its masks.")
        return None
    try:
        bgr = photo_to_bgr(EncodedPixels(image.type, image.getvalue()))
        mask = _checked_truth(truth.getvalue(), bgr.shape[:2], len(taxonomy)) if truth else None
        return Scene(image.getvalue(), bgr, mask, taxonomy)
    except (UndecodableError, ValueError) as error:
        st.error(str(error))
        return None


def _checked_truth(data: bytes, size: tuple[int, int], count: int) -> np.ndarray:
    truth = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if truth is None or truth.dtype != np.uint8 or truth.ndim != 2:
        raise ValueError("The true mask is no 8-bit picture with one channel; save category ids as a grey PNG.")
    if truth.shape != size:
        raise ValueError(f"The true mask is {truth.shape[1]}x{truth.shape[0]}, the image {size[1]}x{size[0]}.")
    if (unknown := truth[(truth >= count) & (truth != NO_LABEL)]).size:
        raise ValueError(f"The true mask holds {unknown[0]}; expected 0 to {count - 1}, or {NO_LABEL}.")
    return truth


@st.cache_data(show_spinner=False, max_entries=64)
def _mask(_masker: Masker, image: bytes, model: str) -> Masked:
    return _masker.mask(image, model)


def _panels(scene: Scene, masked: dict[str, Masked], taxonomies: dict[str, Taxonomy], named: bool) -> None:
    """Rows of pictures: what is common to the left, then a column for each model."""
    rows = [[pictures.figure_html(scene.bgr, "Image", "The image that is masked", ".jpg")]]
    for name, of in masked.items():
        alt = f"Mask of {name}: {pictures.in_words(of.mask, taxonomies[name])}"
        picture = pictures.painted(of.mask, taxonomies[name], named)
        rows[0].append(pictures.figure_html(picture, f"Mask of {name}", alt))
    rows.append([_truth(scene, named)])
    for name, of in masked.items():
        share = 100 * (of.confidence < 128).mean()
        alt = f"Confidence of {name}: mean {of.confidence.mean() / 2.55:.0f} %, {share:.1f} % of the pixels below half"
        title = f"Confidence of {name}, dark blue 0 to yellow 100 %; {share:.1f} % of the pixels below half"
        rows[1].append(pictures.figure_html(pictures.confidence_map(of.confidence), title, alt))
    rows.append([_disagreement(scene, masked, taxonomies)])
    if scene.truth is not None:
        labelled = scene.truth != NO_LABEL
        for name, of in masked.items():
            if not taxonomies[name].same_categories(scene.taxonomy):
                rows[2].append(f"<p>{html.escape(name)} has other categories than the true mask.</p>")
                continue
            wrong = (of.mask != scene.truth) & labelled
            words = (
                f"Errors of {name} in orange: {100 * wrong.sum() / max(labelled.sum(), 1):.1f} % of the labelled pixels"
            )
            rows[2].append(pictures.figure_html(pictures.marked(scene.bgr, wrong), words, words, ".jpg"))
    for row in rows:
        for column, figure in zip(st.columns(1 + len(masked)), row, strict=False):
            column.html(figure)


def _truth(scene: Scene, named: bool) -> str:
    if scene.truth is None:
        return "<p>The true mask of this image is not known.</p>"
    alt = f"True mask: {pictures.in_words(scene.truth, scene.taxonomy)}"
    return pictures.figure_html(pictures.painted(scene.truth, scene.taxonomy, named), "True mask", alt)


def _disagreement(scene: Scene, masked: dict[str, Masked], taxonomies: dict[str, Taxonomy]) -> str:
    if len(masked) < 2:
        return "<p>Choose two models to see where they disagree.</p>"
    if not taxonomies[min(masked)].same_categories(taxonomies[max(masked)]):
        return "<p>The two models have different categories, so their masks cannot be compared.</p>"
    one, other = masked.values()
    differs = one.mask != other.mask
    words = f"Disagreement in orange: {100 * differs.mean():.1f} % of the pixels"
    return pictures.figure_html(pictures.marked(scene.bgr, differs), words, words, ".jpg")


def _figures(scene: Scene, masked: dict[str, Masked], taxonomies: dict[str, Taxonomy]) -> None:
    latency = [[name, of.engine, f"{of.milliseconds:.0f}"] for name, of in masked.items()]
    show_table("Latency of one inference, confidence included", (["model", "engine", "ms"], latency))
    comparable = {name: of.mask for name, of in masked.items() if taxonomies[name].same_categories(scene.taxonomy)}
    if scene.truth is not None and comparable:
        scored = tables.image_scores(scene.truth, comparable, scene.taxonomy)
        show_table("This image against its true mask, percent", scored)
