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
# # The augmentation study: which changed pictures teach something
#
# A few hundred labelled images are little. *Augmentation* changes each of them a bit every time it is shown, in
# ways that leave its meaning alone: mirrored, nearer, darker, noisier. Which of these changes earn their keep?
# The study trains one small network per change and seed, with everything else the same, and scores it on images
# of the same drive and on a drive at dusk that was left out of training.

# %%
import dataclasses
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from IPython.display import SVG, Image, Markdown, display

from seg_node.core.overlay import paint
from seg_node.core.report.charts import study_dots
from seg_node.core.report.tables import markdown, origin, study, study_correction
from seg_training.augmentation import Augmentation, AugmentationConfig
from seg_training.datasets import open_dataset
from seg_training.study import load_study, run_study
from seg_training.study_report import with_differences

# %% [markdown]
# ## What each switch does
#
# A made-up scene, so that this runs without any data set, cropped in the same place each time: as it is, with
# each switch alone, and with what training draws by default. The mask under a picture follows every change of its
# geometry.

# %%
scenes = open_dataset({"dataset": "synthetic", "seeds": [3, 4], "size": [240, 320]})
image, mask = scenes[0]
switches = [field.name for field in dataclasses.fields(AugmentationConfig)]
off = dict.fromkeys(switches, 0.0)
shown = {"as it is": AugmentationConfig(**off)}
shown |= {name: AugmentationConfig(**off | {name: 1.0}) for name in switches}
shown["default"] = AugmentationConfig()


def tile(name, config):
    """Augmented picture above its mask, with the name of the switch."""
    pixels, labels = Augmentation((180, 240), (0.9, 0.9), config)(image, mask, seed=5)
    picture = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    painted = paint(picture, labels.numpy().astype(np.uint8), 0.8)
    cv2.putText(picture, name, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.putText(picture, name, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, painted])


tiles = [tile(name, config) for name, config in shown.items()]
sheet = np.vstack([np.hstack(tiles[:5]), np.hstack(tiles[5:])])
Image(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())

# %% [markdown]
# ## The study, in small
#
# This is the shipped study's own file and its own code, cut down to seconds: two of its variants, one seed, a few
# steps on tiny made-up scenes in place of CamVid. Its figures mean nothing; that it runs shows how to run it.

# %%
small = load_study(Path("../../config/studies/augmentation.yaml"), variants=["crop_only", "default"], seeds=[0])
tiny = {"dataset": "synthetic", "size": [64, 96]}
small.base |= {"train": [tiny | {"seeds": [0, 4]}], "input_size": [64, 96], "threads": 1}
small.evaluate = {"made up": tiny | {"seeds": [4, 6]}}
with tempfile.TemporaryDirectory() as folder:
    results = run_study(small, Path(folder, "augmentation"), ["steps=3", "batch_size=2", "stages.0.crop=[64, 96]"])
Markdown(markdown(study(results, "made up")))

# %% [markdown]
# On the real data it is one command; `python -m seg_training study augmentation --root camvid=FOLDER`.
#
# ## What the full study found
#
# Read from its shipped result file: every variant with several seeds, each scored on both sets.

# %%
full = json.loads(Path("../results/studies/augmentation/results.json").read_text())
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
Markdown(f"Intervals are {study_correction(full)}: the best of many differences looks good by chance alone.")

# %% [markdown]
# An interval that holds zero means that this many seeds cannot tell the variant from the first. That is the case
# for small changes more often than one would like, and it is why the table shows the spread between seeds beside
# each mean. What was expected before the study ran, and how that came out, stands in [the
# experiments](../experiments.md).
