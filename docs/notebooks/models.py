# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The main model and the two backbones, compared
#
# Three models are shipped. All have a feature pyramid (FPN) as their decoder and differ in the *backbone* that
# looks at the picture. `fpn_lite` is small and is what the node runs unless told otherwise. `fpn_resnet50` is the
# classical baseline, and `fpn_convnextv2` its modern challenger. This notebook shows what they are, what they
# make of the same frame, and what the full comparison in the real node found.

# %%
import time

import cv2
import numpy as np
from IPython.display import SVG, Image, Markdown, display

from seg_node.bags.drive import open_drive
from seg_node.bags.images import decode
from seg_node.compare import tables
from seg_node.compare.comparison import load_comparison
from seg_node.compare.plots import figures
from seg_node.compare.text import caution, drive, machine
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle, shipped_bundles
from seg_node.core.engines import create_engine
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.core.overlay import annotate, paint
from seg_node.core.report.tables import markdown, number
from seg_node.core.taxonomy import SCORED_NAMES

# %% [markdown]
# ## What they are
#
# A model is a *bundle*: a folder with the network and a manifest that says what it is, what it was trained on,
# and how it scored. `load_bundle` checks it whole, checksums included, before anything runs.

# %%
bundles = {name: load_bundle(name) for name in shipped_bundles()}
facts = []
for name, bundle in bundles.items():
    told = bundle.manifest
    scored = [told.metrics.get(data, {}).get("miou_7") for data in ("camvid_val", "camvid_0001TP")]
    facts.append(
        [
            name,
            told.backbone,
            f"{told.parameters / 1e6:.1f}",
            number(told.gflops),
            f"{told.input_size[1]}x{told.input_size[0]}",
            *map(number, scored),
        ]
    )
header = ["model", "backbone", "million weights", "GFLOPs", "looks at", "CamVid val", "development drive"]
print(f"the node runs {DEFAULT_MODEL} unless its parameter `model` says otherwise")
Markdown(markdown((header, facts), code=(0, 1)))

# %% [markdown]
# The last two columns are `miou_7` in percent: the mean over seven categories of how well mask and truth overlap.
# CamVid val is one clip of a drive whose rest was trained on, so it flatters; the development drive says more.
#
# ## One frame, three masks
#
# The same frame of the shipped drive, which is made up and has a true mask, through each of them on this machine.

# %%
piece = open_drive("../../rosbags/synthetic_drive", start=2.0, duration=0.2)
engines = {name: create_engine(bundle) for name, bundle in bundles.items()}
frame = piece.frames[0]
image, truth = decode(frame), piece.masks[frame.stamp]


def panel(mask, title):
    """The frame under a mask, with its title and the legend."""
    painted = paint(image, mask)
    annotate(painted, title, mask)
    return painted


masks = {name: engine.infer(image)[0] for name, engine in engines.items()}
panels = [panel(truth, "ground truth"), *(panel(mask, name) for name, mask in masks.items())]
sheet = np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])
Image(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())

# %% [markdown]
# Over the few frames of this piece. The times are those of this machine in this minute, beside whatever else it
# does: they show the order of magnitude and decide nothing.

# %%
rows = []
for name, engine in engines.items():
    confusion, times = 0, []
    for frame in piece.frames:
        image = decode(frame)
        before = time.perf_counter()
        mask = engine.infer(image)[0]
        times.append(1000 * (time.perf_counter() - before))
        confusion = confusion + confusion_matrix(piece.masks[frame.stamp], mask)
    found = scores(confusion)
    rows.append(
        [
            name,
            f"{engine.name}, {engine.precision}",
            number(float(np.median(times)), 0),
            number(found["miou_7"]),
            *(number(found["iou"][category]) for category in SCORED_NAMES),
        ]
    )
Markdown(markdown((["model", "engine", "median ms", "`miou_7`", *SCORED_NAMES], rows), code=(0,)))

# %% [markdown]
# ## Which of them should drive?
#
# Whether a difference is real or chance takes more than a few frames. `make compare` plays the whole drive
# through node processes of their own, in pairs and in turns, and puts an interval on each difference. This is its
# shipped result.

# %%
comparison = load_comparison("../results/comparison.json")
for text in (drive(comparison), machine(comparison), *caution(comparison)):
    display(Markdown(text))
Markdown(markdown(tables.verdicts(comparison)))

# %%
Markdown(f"> {comparison.decision.sentence}")

# %% [markdown]
# Every pair by itself, with the interval of its difference. An interval that holds zero names no winner.

# %%
Markdown(markdown(tables.pairs(comparison)))

# %% [markdown]
# Latency as a distribution, not a mean: a decision module has to live with the slowest masks as well.

# %%
for figure in figures(comparison):
    if any(map(figure.shows, ("Latency at the recorded rate", "Where the time goes", "Accuracy by category"))):
        display(SVG(figure.svg), Markdown(figure.numbers))

# %% [markdown]
# Why the streaming row favours the fast model, though it is not the best offline, is the subject of [the
# streaming gap](streaming_gap.py).
