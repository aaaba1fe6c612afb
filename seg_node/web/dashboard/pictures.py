"""Masks as pictures that people with any colour vision can read, and in words for those who see none of it."""

import base64
import html

import cv2
import numpy as np

from seg_node.core.taxonomy import CATEGORY_NAMES, EIGHT, Taxonomy, colorize

ACCESSIBLE = Taxonomy(
    CATEGORY_NAMES,
    (
        (0, 0, 0),  # void: black
        (204, 121, 167),  # flat: reddish purple
        (230, 159, 0),  # construction: orange
        (240, 228, 66),  # object: yellow
        (0, 158, 115),  # nature: bluish green
        (86, 180, 233),  # sky: sky blue
        (213, 94, 0),  # human: vermilion
        (0, 114, 178),  # vehicle: blue
    ),
)
"""The eight in colours of Okabe and Ito ("Color Universal Design", 2008). Two of Cityscapes' colours are greys and two
nearly black, which is hard on everybody."""

PALETTES = {"for any colour vision": ACCESSIBLE, "of Cityscapes": EIGHT}
"""The eight in each choice of colours; other categories have those of their bundle."""

_NAMED_SHARE = 0.004
"""Share of the image's pixels below which a category is not named in the picture, where the name would hide them."""
_MARK_BGR = (0, 159, 230)


def painted(mask: np.ndarray, taxonomy: Taxonomy, named: bool) -> np.ndarray:
    """Paint a mask.

    Args:
        mask: uint8 [H, W] of categories; 255 turns white.
        taxonomy: of the mask, in the colours to paint it in.
        named: write each category's name where it is broadest.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    picture = colorize(mask, taxonomy)
    if named:
        taken = np.zeros(mask.shape, bool)
        for category, name in enumerate(taxonomy.names):
            region = (mask == category).astype(np.uint8)
            if region.mean() >= _NAMED_SHARE:
                # Zeros around it: a region that leaves the picture ends there.
                inside = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
                broadest = np.argwhere(inside > inside.max() - 0.5)
                y, x = broadest[len(broadest) // 2]
                _write(picture, name, x, y, taken)
    return picture


def _write(picture: np.ndarray, text: str, x: int, y: int, taken: np.ndarray) -> None:
    """Write centred on a point, inside the picture, in white on a dark plate that is seen on every colour.

    Args:
        picture: uint8 [H, W, 3] BGR, written on.
        text: what to write.
        x: column of the point.
        y: row of the point.
        taken: bool [H, W], where other names are; the plate is added. Where it would hide one, it moves up or down.
    """
    height, width = picture.shape[:2]
    scale = max(width / 700, 0.35)
    margin, thickness = max(2, round(5 * scale)), max(1, round(2 * scale))
    (wide, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    if wide + 2 * margin > width:
        # A name that fits nowhere is better small than cut.
        scale *= 0.9 * (width - 2 * margin) / wide
        (wide, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    left = int(np.clip(x - wide / 2, margin, max(margin, width - wide - margin)))
    step = high + below + margin
    for shift in (0, -step, step, -2 * step, 2 * step):
        base = int(np.clip(y + high / 2 + shift, high + margin, max(high + margin, height - below - 1)))
        plate = slice(base - high - margin, base + below + 1), slice(left - margin, left + wide + margin)
        if not taken[plate].any():
            break
    taken[plate] = True
    picture[plate] = picture[plate] // 5
    colour = (255, 255, 255)
    cv2.putText(picture, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)


def marked(bgr: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The image in grey with some of its pixels, bool [H, W], in orange; uint8 [H, W, 3] BGR."""
    picture = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    picture[where] = (0.2 * picture[where] + 0.8 * np.array(_MARK_BGR)).astype(np.uint8)
    return picture


def confidence_map(confidence: np.ndarray) -> np.ndarray:
    """Confidence, uint8 [H, W], from dark blue (0) to yellow (255), in steps of lightness that print in grey as well.

    The colours are cividis (Nunez et al., "Optimizing colormaps with consideration for color vision deficiency", PLOS
    ONE 2018).
    """
    return cv2.applyColorMap(confidence, cv2.COLORMAP_CIVIDIS)


def in_words(mask: np.ndarray, taxonomy: Taxonomy) -> str:
    """Shares of the categories in a mask, the largest first."""
    shares = 100 * np.bincount(mask.ravel(), minlength=256)[: len(taxonomy)] / mask.size
    present = [i for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    return ", ".join(f"{taxonomy.names[i]} {shares[i]:.1f} %" for i in present) or "nothing labelled"


def figure_html(picture: np.ndarray, title: str, alt: str, extension: str = ".png") -> str:
    """An HTML figure of a picture, uint8 BGR, at most 960 pixels wide, with its title and its words."""
    if picture.shape[1] > 960:
        size = 960, round(picture.shape[0] * 960 / picture.shape[1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(extension, picture)[1].tobytes()
    return image_html(data, "image/png" if extension == ".png" else "image/jpeg", title, alt)


def image_html(data: bytes, media_type: str, title: str, alt: str) -> str:
    """An HTML figure of an image file; ``alt`` is what a screen reader says in its place."""
    source = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure style="margin:0"><img style="width:100%" src="{source}" alt="{html.escape(alt)}">'
        f'<figcaption style="font-size:.9em">{html.escape(title)}</figcaption></figure>'
    )


def legend_html(taxonomy: Taxonomy) -> str:
    """Colour, value and name of each category."""
    entries = "".join(
        f'<span style="display:inline-block;margin-right:1.2em"><span style="display:inline-block;width:1.4em;height:'
        f'.9em;margin-right:.35em;border:1px solid #555;background:rgb({r},{g},{b})"></span>{value}'
        f" {html.escape(name)}</span>"
        for value, (name, (r, g, b)) in enumerate(zip(taxonomy.names, taxonomy.palette, strict=True))
    )
    return f"<p>{entries}</p>"
