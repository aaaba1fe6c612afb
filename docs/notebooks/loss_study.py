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
# # The loss study: what a network is told to care about
#
# A loss turns "how wrong is this mask" into one number, and its slope at each pixel is what training pulls at.
# Cross-entropy counts every pixel alike, so a road that fills half of the picture outweighs a pedestrian a
# hundredfold. The other losses are ways to mend that. This notebook shows where each of them pulls, and then what
# the full study found.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib
import torch
from IPython.display import SVG, Markdown, display

from seg_node.core.report.charts import STYLE, canvas, study_dots, to_svg
from seg_node.core.report.tables import markdown, number, origin, study, study_correction
from seg_node.core.taxonomy import CATEGORY_NAMES, Category
from seg_training.datasets import open_dataset
from seg_training.losses import LOSS_TERMS, make_loss
from seg_training.study import load_study, run_study
from seg_training.study_report import with_differences

# %% [markdown]
# ## Where each loss pulls
#
# A made-up scene and a network's answer that we make up as well: it is fairly sure of what is right, unsure at
# the borders of things, and takes every person, pole and sign for vegetation. The scene's own labels say which
# pixels those are.

# %%
scenes = open_dataset({"dataset": "synthetic", "seeds": [3, 11], "size": [180, 240]})
rare = (Category.HUMAN, Category.OBJECT)
# The scene that shows most of what is rare.
image, mask = max((scenes[i] for i in range(len(scenes))), key=lambda scene: sum((scene[1] == c).sum() for c in rare))
truth = torch.from_numpy(mask).long()[None]
right = torch.nn.functional.one_hot(truth, len(Category)).permute(0, 3, 1, 2).float()
wrong = sum((truth == category).float() for category in rare)[:, None]
nature = torch.zeros_like(right)
nature[:, Category.NATURE] = 1
answer = right * (1 - wrong) + nature * wrong
# Blurred, as a network's answer is at borders.
logits = 4 * torch.nn.functional.avg_pool2d(answer, 7, stride=1, padding=3, count_include_pad=False)

shares = torch.bincount(truth.flatten(), minlength=len(Category)).double().numpy()
shares /= shares.sum()
pulls = {}
for name in LOSS_TERMS:
    scores = logits.clone().requires_grad_()
    make_loss({name: 1.0}, shares, softness=1.02)(scores, truth).backward()
    pull = scores.grad.abs().sum(1)[0]
    pulls[name] = (pull / pull.sum()).numpy()

# %%
with matplotlib.rc_context(STYLE):
    fig = canvas(4.6, 9.0)
    panels = fig.subplots(2, 4).flat
    first = next(panels)
    first.imshow(image[..., ::-1])
    first.set_title("the scene")
    for axes, (name, pull) in zip(panels, pulls.items(), strict=True):
        axes.imshow(pull**0.5, cmap="magma")
        axes.set_title(name)
    for axes in fig.axes:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    drawn = to_svg(fig)
SVG(drawn)

# %% [markdown]
# The brighter, the stronger a pixel pulls (the square root of its share). In numbers: how much of each loss's
# whole pull comes from the pixels of each category, beside the share of the picture that the category covers.

# %%
covered = [100 * float(share) for share in shares]
rows = [["share of the picture", *map(number, covered)]]
for name, pull in pulls.items():
    rows.append([name, *(number(100 * float(pull[mask == category].sum())) for category in Category)])
Markdown(markdown((["", *CATEGORY_NAMES], rows)))

# %% [markdown]
# ## The study, in small
#
# The shipped study's own file and its own code, cut down to seconds: two of its losses, one seed, a few steps on
# tiny made-up scenes in place of CamVid. Its figures mean nothing; that it runs shows how to run it.

# %%
small = load_study(
    Path("../../config/studies/loss.yaml"), variants=["cross_entropy", "cross_entropy_lovasz"], seeds=[0]
)
tiny = {"dataset": "synthetic", "size": [64, 96]}
small.base |= {"train": [tiny | {"seeds": [0, 4]}], "input_size": [64, 96], "threads": 1}
small.evaluate = {"made up": tiny | {"seeds": [4, 6]}}
with tempfile.TemporaryDirectory() as folder:
    results = run_study(small, Path(folder, "loss"), ["steps=3", "batch_size=2", "stages.0.crop=[64, 96]"])
Markdown(markdown(study(results, "made up")))

# %% [markdown]
# On the real data it is one command; `python -m seg_training study loss --root camvid=FOLDER`.
#
# ## What the full study found
#
# Read from its shipped result file: every loss with several seeds, scored on images of the drive that was trained
# on and on a drive at dusk that was left out.

# %%
full = json.loads(Path("../results/studies/loss/results.json").read_text())
# Differences to the first variant, all of them as one family.
full = with_differences(full, next(iter(full["variants"])))
cell = full["base"]
print(f"{full['question']}: {len(full['variants'])} variants, seeds {', '.join(map(str, full['seeds']))}")
print(f"{cell['encoder']}, {cell['steps']} steps of {cell['batch_size']} crops of {cell['stages'][0]['crop']}")
# Older files have the machine and the commit in words of their own.
known = map(origin, full["machines"]) if "machines" in full else [f"{full['machine']}, commit {full['commit'][:9]}"]
print(*known, sep="\n")

# %%
figure = study_dots(full)
display(SVG(figure.svg), Markdown(figure.caption))

# %%
for data in full["summary"]:
    display(Markdown(f"**{data}**"), Markdown(markdown(study(full, data))))

# %%
Markdown(f"Intervals are {study_correction(full)}. One that holds zero tells nothing from chance.")

# %% [markdown]
# Read the columns of `object` and `human` as well as the mean: a loss that lifts the rare ones may pay for it
# elsewhere. What was expected before the study ran, and how that came out, stands in [the
# experiments](../experiments.md).
