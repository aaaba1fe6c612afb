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
# # The streaming gap: why a late mask is a wrong mask
#
# A network is usually scored frame by frame: its mask of a frame against the truth of that frame. A vehicle never
# has that mask in time. While the network works, the world moves on, and what the decision module holds is the
# mask of an older frame. *Streaming* accuracy scores what is really at hand: the truth of **this** frame against
# the newest mask that has **arrived** (Li, Wang and Ramanan, "Towards Streaming Perception", ECCV 2020).
#
# This notebook makes the gap by hand on a piece of the shipped drive, narrows it with the mask of now, and ends
# with what the real node measured. It runs from top to bottom in well under a minute.

# %%
import sys
from pathlib import Path

import matplotlib
from IPython.display import SVG, Markdown, display

from seg_node.bags.drive import open_drive
from seg_node.compare import tables
from seg_node.compare.comparison import load_comparison
from seg_node.compare.plots import figures
from seg_node.compare.text import drive, machine, now_method
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.metrics import scores
from seg_node.core.report.charts import COLOURS, DASHES, MARKERS, STYLE, canvas, to_svg
from seg_node.core.report.tables import markdown, number
from seg_node.rig.streaming import confusion_with_misses

# Jupyter runs a notebook in its own folder.
REPOSITORY = Path.cwd().parents[1]
sys.path.append(str(REPOSITORY / "docs"))
from late_masks import late_masks  # noqa: E402

# %% [markdown]
# ## A worker that is slower than the camera
#
# The shipped drive is made up, with a true mask for every frame. We take a second of it at 30 Hz and let an
# inference last 1, 2, 4 or 6 periods of the camera: 33, 67, 133 or 200 ms. The worker takes the newest frame
# whenever it is free, as the node does, and skips the others. For every frame we score three masks against the
# truth of **that** frame:
#
# - `offline`: the mask of the same frame, as if the network took no time;
# - `mask`: the newest mask that has arrived, which is what `~/mask` last published;
# - `mask_now`: the same mask, carried to the frame by optical flow, which is what `~/mask_now` publishes.

# %%
piece = open_drive(REPOSITORY / "rosbags" / "synthetic_drive", start=2.0, duration=1.2)
engine = create_engine(load_bundle(DEFAULT_MODEL))
inferred = {}


def infer(image):
    """Mask of an image; each is inferred once, for several workers meet it."""
    key = image.tobytes()
    if key not in inferred:
        inferred[key] = engine.infer(image)[0].copy()
    return inferred[key]


rows, found = [], {"mask": [], "mask_now": []}
lengths = (1, 2, 4, 6)
for periods in lengths:
    confusions = {"offline": 0, "mask": 0, "mask_now": 0}
    for late in late_masks(piece.frames, infer, periods):
        truth = piece.masks[piece.frames[late.frame].stamp]
        shown = {"offline": infer(late.image), "mask": late.mask, "mask_now": late.now}
        for name, mask in shown.items():
            confusions[name] = confusions[name] + confusion_with_misses(truth, mask)
    figures_of = {name: scores(confusion) for name, confusion in confusions.items()}
    for name in found:
        found[name].append(figures_of[name]["miou_7"])
    rows.append(
        [
            f"{1000 * periods / piece.rate:.0f} ms",
            *(number(figures_of[name]["miou_7"]) for name in confusions),
            *(number(figures_of[name]["iou"]["vehicle"]) for name in confusions),
        ]
    )
header = ["inference", *(f"{name}, {figure}" for figure in ("`miou_7`", "vehicle") for name in confusions)]
print(f"{len(piece.frames)} frames, {len(inferred)} of them inferred with {DEFAULT_MODEL}")
Markdown(markdown((header, rows)))

# %% [markdown]
# The longer an inference lasts, the further the two fall behind what the same network reaches offline, although
# not a single weight has changed. Carrying the mask along takes back a good part of the loss, more of it the
# later the mask is.

# %%
with matplotlib.rc_context(STYLE):
    fig = canvas(2.8)
    axes = fig.subplots()
    for place, (name, values) in enumerate(found.items()):
        axes.plot(
            [1000 * periods / piece.rate for periods in lengths],
            values,
            color=COLOURS[place],
            ls=DASHES[place],
            marker=MARKERS[place],
            label=name,
        )
    axes.set(xlabel="an inference lasts, ms", ylabel="streaming miou_7, %", title="Late is wrong")
    axes.set_xlim(left=0)
    fig.legend(ncols=2, loc="outside lower center")
    drawn = to_svg(fig)
SVG(drawn)

# %% [markdown]
# This is an illustration on about forty frames of a made-up street: the next drive has other figures. What holds
# in general is the order: offline above `mask_now` above `mask`, further apart as inference gets slower.
#
# ## What the real node measured
#
# The shipped comparison played the whole drive through real node processes, with their real latencies. Everything
# below is read from its result file.

# %%
comparison = load_comparison(REPOSITORY / "docs" / "results" / "comparison.json")
display(Markdown(drive(comparison)), Markdown(machine(comparison)))
Markdown(markdown(tables.verdicts(comparison)))

# %% [markdown]
# The network that is best offline need not be best where it drives. The next figure shows why: each model's
# accuracy falls from offline to streaming, and the slower it is, the further.

# %%
for figure in figures(comparison):
    if figure.shows("Accuracy against latency"):
        display(SVG(figure.svg), Markdown(figure.numbers))

# %% [markdown]
# ## What the mask of now gives back, in the real node
#
# The column *gap closed* says which share of the way from streaming to offline accuracy the mask of now takes
# back. The interval beside each gain says how sure it is.

# %%
display(Markdown(markdown(tables.now(comparison))))
listened = comparison.models[comparison.gains[0].model].name
for figure in figures(comparison):
    if figure.shows(f"~/mask_now of {listened}"):
        display(SVG(figure.svg), Markdown(figure.caption))

# %%
Markdown(now_method(comparison))

# %% [markdown]
# By the age of the inferred mask, in the same runs: the older it is, the more the carrying is worth.

# %%
Markdown(markdown(tables.now_by_age(comparison)))

# %% [markdown]
# [The mask of now](../mask_now.md) tells how it works, and when not to trust it: what came into view after the
# inferred frame is not in it.
