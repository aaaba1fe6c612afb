"""A model card for a bundle, from its manifest: what it is for and what not, what it misses, and on what terms.

The sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from collections.abc import Mapping
from typing import Any

from seg_node.core.bundle import Manifest
from seg_node.core.taxonomy import Taxonomy

CARD = "MODEL_CARD.md"
"""Name of the file in the bundle's folder."""

_WEAK = 60.0
"""IoU in percent below which a category is named as a known weakness."""


def model_card(manifest: Manifest) -> str:
    """Markdown text of the card."""
    training = manifest.training
    return "\n".join(
        [
            f"# {manifest.name}",
            "",
            f"{manifest.decoder.upper()} over `{manifest.backbone}`, {manifest.parameters / 1e6:.1f} million"
            f" parameters, {manifest.gflops:.1f} GFLOPs a frame at {manifest.input_size[0]}x{manifest.input_size[1]};"
            f" made {manifest.date}. Category of each pixel of a road scene: {', '.join(manifest.categories)}.",
            "",
            "## Terms",
            "",
            f"- Licence of the file: {manifest.licence or 'not stated'}",
            f"- Terms of the training data: {manifest.training_data_terms or 'not stated'}",
            f"- Commercial use: {manifest.commercial_use or 'not cleared'}",
            f"- Encoder weights: {manifest.encoder_weights or 'random values'}",
            "",
            "## Intended use",
            "",
            "Showing and measuring a perception node on road scenes by day, seen from a car's windscreen, and as a"
            " start for training on data of the vehicle that is to use it.",
            "",
            "## Out of scope",
            "",
            "Driving. No shipped model was trained on enough places, weather or light, and none was validated for"
            " safety. Night, snow, fisheye lenses, views from other places than a car's front, and anything that has to"
            " tell persons apart are outside what it was made for.",
            "",
            "## Training data",
            "",
            *(f"- {line}" for line in training.get("data", ["not stated"])),
            "",
            "## Scores",
            "",
            *_score_table(manifest.metrics, manifest.taxonomy),
            "",
            "IoU in percent. CamVid val is a clip of a drive that training saw other parts of, and flatters. 0001TP is"
            " the development drive, at dusk: training never saw it, but choices were made by its scores.",
            *_quantised(manifest.quantisation),
            "",
            "## Known failures",
            "",
            *(_failures(manifest.metrics) or ["- None is written down: the bundle was not scored."]),
            "",
        ]
    )


def _score_table(metrics: Mapping[str, Any], taxonomy: Taxonomy) -> list[str]:
    scored, name = taxonomy.scored_names, taxonomy.headline
    if not metrics:
        return ["The bundle was not scored."]
    rows = [f"| data | computed in | `{name}` | {' | '.join(scored)} |", "|---" * (3 + len(scored)) + "|"]
    for figures in metrics.values():
        cells = [_percent(figures["iou"].get(category)) for category in scored]
        interval = "{:.1f} to {:.1f}".format(*figures[f"{name}_ci"]) if figures.get(f"{name}_ci") else ""
        head = f"{figures[name]:.1f}" + (f" ({interval})" if interval else "")
        rows.append(f"| {figures['data']} | {figures['computed_in']} | {head} | {' | '.join(cells)} |")
    return rows


def _quantised(quantisation: Mapping[str, Any]) -> list[str]:
    losses = {
        name: found["loss"]
        for name, found in quantisation.items()
        if isinstance(found, Mapping) and isinstance(found.get("loss"), int | float)
    }
    if not losses:
        return []
    costs = ", ".join(f"{max(0.0, loss):.2f} points on {name}" for name, loss in losses.items())
    return ["", f"int8 costs at most {costs}; ranges from {quantisation.get('calibrated_on', 'an unnamed set')}."]


def _failures(metrics: Mapping[str, Any]) -> list[str]:
    """Lines about categories that are weak, and about those that lose most from the best set to the worst."""
    lines = []
    sets = list(metrics.values())
    for figures in sets:
        weak = {name: iou for name, iou in figures["iou"].items() if name != "void" and iou is not None and iou < _WEAK}
        if weak:
            worst = ", ".join(f"{name} {iou:.0f} %" for name, iou in sorted(weak.items(), key=lambda item: item[1]))
            lines.append(f"- {figures['data']}, {figures['computed_in']}: {worst} IoU.")
    if len(sets) > 1:
        falls = {
            name: max(values) - min(values)
            for name in sets[0]["iou"]
            if name != "void" and len(values := [s["iou"][name] for s in sets if s["iou"].get(name) is not None]) > 1
        }
        if falls:
            name = max(falls, key=falls.__getitem__)
            lines.append(f"- From one of these sets to another `{name}` differs by {falls[name]:.0f} points.")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
