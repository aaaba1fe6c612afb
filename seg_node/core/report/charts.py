"""Charts as SVG that can stand in a web page, and what all charts have in common.

Colours are Okabe and Ito's ("Color Universal Design", 2008), which people with any colour vision tell apart; markers,
dashes and hatches say the same again for a black and white print. Figures are narrow, so that their text can be read
on a telephone.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB",
)  # fmt: skip

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
"""Colours of models, runs and variants, in the order of these."""
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
STYLE = {
    "font.size": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "seg_node",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.use": True,
}
"""Settings of matplotlib under which figures are drawn and become SVG."""


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    drawing: Canvas
    caption: str
    """What is to be seen."""
    numbers: str
    """The same in numbers, for those who do not see it."""

    @cached_property
    def svg(self) -> str:
        """The picture as SVG. It takes most of the time of a figure, and is made for who asks for it."""
        with matplotlib.rc_context(STYLE):
            return to_svg(self.drawing)

    def shows(self, text: str) -> bool:
        """Whether these words stand in the picture, as a title or a label of their own."""
        return any(found.get_text() == text for found in self.drawing.findobj(Text))


def canvas(height: float, width: float = 4.6) -> Canvas:
    """An empty figure of this size in inches; to be drawn under ``STYLE``."""
    return Canvas(figsize=(width, height), layout="constrained")


def to_svg(fig: Canvas) -> str:
    """The figure without XML prolog, and without a fixed size, so that the page decides it."""
    text = io.StringIO()
    fig.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub("<svg[^>]*>", lambda tag: re.sub(' (width|height)="[^"]*"', "", tag[0]), svg, count=1)


def study_dots(results: Mapping[str, Any]) -> Figure:
    """``miou_7`` of each variant of a study, see ``study_canvas``."""
    with matplotlib.rc_context(STYLE):
        fig = study_canvas(results)
    said = [
        f"{name}: " + ", ".join(f"{variant} {row['miou_7']['mean']:.1f} %" for variant, row in variants.items())
        for name, variants in results["summary"].items()
    ]
    return Figure(fig, "miou_7 of each seed (dots) and mean (diamond).", "; ".join(said) + ".")


def study_canvas(results: Mapping[str, Any]) -> Canvas:
    """``miou_7`` of each variant: every seed and the mean, a panel for each data set.

    Args:
        results: what ``seg_training study`` writes as ``results.json``.
    """
    summary = results["summary"]
    rows = max(map(len, summary.values()))
    fig = canvas(1.1 + 0.3 * rows, 1.6 + 2.2 * len(summary))
    panels = fig.subplots(1, len(summary), sharey=True, squeeze=False)[0]
    for axes, (name, variants) in zip(panels, summary.items(), strict=True):
        for place, row in enumerate(variants.values()):
            values = list(row["miou_7"]["values"].values())
            axes.plot(values, [place] * len(values), "o", color=COLOURS[0], alpha=0.6, ms=5)
            axes.plot(row["miou_7"]["mean"], place, "D", mec=COLOURS[1], mfc="none", ms=7, mew=1.5)
        axes.set(title=name, xlabel="miou_7, %")
        axes.set_yticks(range(len(variants)), list(variants))
        axes.set_ylim(rows - 0.5, -0.5)
    return fig
