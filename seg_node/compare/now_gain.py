"""What the mask of now gives: accuracy at the moment of use with it and without it, in runs of the same processes.

A process plays the drive at its recorded rate twice, first with nobody who listens to ``~/mask_now``, then with a
listener. Such a pair of runs is the unit of the intervals, as a pair of processes is where backbones are compared.
"""

from collections import defaultdict

import numpy as np

from seg_node.compare.comparison import Comparison, Measured, Scored
from seg_node.compare.now_results import AgeScored, Gain
from seg_node.compare.statistics import IouCounts, Units, blocks_of, mean_iou, miou_differences
from seg_node.compare.verdict import MIN_BLOCKS, MIN_PAIRS, block_seconds
from seg_node.core.statistics import mean_known
from seg_node.core.taxonomy import Taxonomy


def gains(comparison: Comparison) -> list[Gain]:
    """Gain of the headline, such as ``miou_7``, and of each category, of each backbone whose mask of now was scored.

    The intervals are Student's over the pairs of runs and over the blocks of the drive, the wider of both, at the
    comparison's level; over the pairs alone where the drive is too short for blocks.
    """
    seconds = block_seconds(comparison)
    block = blocks_of(np.array(comparison.drive.times_s), seconds)
    found, taxonomy = [], comparison.taxonomy
    for model in dict.fromkeys(scored.model for scored in comparison.streaming_now):
        now, listened, alone = (
            {scored.repetition: scored for scored in kind if scored.model == model}
            for kind in (comparison.streaming_now, comparison.streaming_listened, comparison.streaming)
        )
        pairs = sorted(now.keys() & listened.keys() & alone.keys())
        offline = [scored for scored in comparison.offline if scored.model == model]
        for column, category in enumerate([None, *taxonomy.scored_names]):
            found.append(
                _gain(
                    model,
                    taxonomy.headline,
                    category,
                    [alone[i] for i in pairs],
                    [listened[i] for i in pairs],
                    [now[i] for i in pairs],
                    offline,
                    slice(column - 1, column) if column else slice(None),
                    block,
                    comparison.level,
                )
            )
    return found


def _gain(
    model: int,
    headline: str,
    category: str | None,
    alone: list[Scored],
    listened: list[Scored],
    now: list[Scored],
    offline: list[Scored],
    columns: slice,
    block: np.ndarray,
    level: float,
) -> Gain:
    """One row, of a category or of the headline; ``columns`` are the categories that the figure is made of."""
    kinds = [mean_known(_figure(scored, category) for scored in kind) for kind in (alone, listened, now, offline)]
    values = [(_figure(a, category), _figure(b, category)) for a, b in zip(alone, now, strict=True)]
    differences = np.array([b - a for a, b in values if a is not None and b is not None])
    estimate = float(differences.mean()) if differences.size else None
    gain = Gain(model, category or headline, *kinds, estimate, None, None, len(alone))
    if len(differences) < MIN_PAIRS:
        return gain
    blocks = int(block.max()) + 1
    of_blocks = None
    if blocks >= MIN_BLOCKS:
        of_blocks = miou_differences(*(_counts(kind, columns, block) for kind in (alone, now)), blocks)
        # Without the one block in which a category occurs, there is no figure.
        of_blocks = of_blocks if np.isfinite(of_blocks).all() else None
    interval = Units(differences, of_blocks).interval(level)
    gain.low, gain.high = interval.low, interval.high
    return gain


def _figure(scored: Scored, category: str | None) -> float | None:
    return scored.headline if category is None else scored.iou[category]


def _counts(scored: list[Scored], columns: slice, block: np.ndarray) -> IouCounts:
    return IouCounts(
        hits=np.concatenate([np.array(s.hits)[:, columns] for s in scored]),
        unions=np.concatenate([np.array(s.unions)[:, columns] for s in scored]),
        block=np.concatenate([block[s.frame] for s in scored]),
    )


def by_age(comparison: Comparison, model: int) -> dict[int, dict[str, AgeScored]]:
    """Both topics by the age of the inferred mask, summed over the processes: from the least age to topic to scores."""
    sums: dict[int, dict[str, AgeScored]] = defaultdict(dict)
    for measured in comparison.now:
        for row in measured.by_age if measured.model == model else ():
            known = sums[row.from_ms].get(row.topic)
            if known is None:
                sums[row.from_ms][row.topic] = AgeScored(**vars(row))
            else:
                known.frames += row.frames
                known.hits = np.add(known.hits, row.hits).tolist()
                known.unions = np.add(known.unions, row.unions).tolist()
    return dict(sorted(sums.items()))


def iou_of_age(row: AgeScored, category: str | None, taxonomy: Taxonomy) -> float | None:
    """IoU of a category of one class of age, or the mean of all, in percent; None where nothing is labelled."""
    columns = slice(None) if category is None else [taxonomy.scored_names.index(category)]
    value = float(mean_iou(np.array(row.hits)[columns], np.array(row.unions)[columns]))
    return value if np.isfinite(value) else None


def pace(comparison: Comparison, model: int) -> tuple[float | None, float | None]:
    """Masks per second at the recorded rate without and with a listener, of the processes that played both."""
    with_it = _runs(comparison, model, "listened")
    without = [run for run in _runs(comparison, model, "recorded") if run.repetition in {r.repetition for r in with_it}]
    return tuple(mean_known(run.masks_per_second for run in runs) for runs in (without, with_it))


def _runs(comparison: Comparison, model: int, purpose: str) -> list[Measured]:
    return [run for run in comparison.runs if run.model == model and run.purpose == purpose]
