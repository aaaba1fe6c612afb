"""Which backbone should drive: one verdict for each question, and one over all of them.

No winner is named where the difference may be chance: its interval includes zero, or there is too little data for the
question. ``compare.statistics`` says how the intervals are made.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from seg_node.compare.comparison import Comparison, Decision, Difference, Measured, Scored, Verdict
from seg_node.compare.statistics import (
    LEVEL,
    Interval,
    IouCounts,
    Units,
    block_length,
    blocks_of,
    decided,
    miou_differences,
    quantile_differences,
)
from seg_node.core.report.tables import signed
from seg_node.core.statistics import mean_known

RULE = "Student's interval of one degree of freedom fewer over at least 5 pairs of processes, Holm"
"""Name of the rule of this version: verdicts of another one are made anew, see ``judged``."""
MIN_PAIRS = 5
"""Pairs of processes that a verdict needs: Student's quantile for fewer leaves hardly any difference to be seen."""
BLOCK_S = 1.0
"""Shortest block of the drive, in seconds: longer than what neighbouring frames have in common at driving speed."""
MIN_BLOCKS = 8
"""Blocks that a verdict needs: with fewer an interval says little."""
MAX_BLOCKS = 200
"""Most blocks of a long drive: more of them would say no more."""
MIN_P99_MASKS = 100
"""Masks of each backbone that a verdict on the 99th percentile needs."""

ACCURACY = ("streaming", "offline")
MORE_PAIRS_DECIDE = ("latency_p50", "sustained", "streaming")
"""Questions for which ``--until-decided`` adds pairs of processes."""

Sides = tuple[int, int]
"""Places of two backbones in ``Comparison.models``, the first one before the second."""
Answer = tuple[Units | None, str]
"""Difference of two backbones, and why there is none, or why it decides nothing; empty where it may decide."""


def judge(comparison: Comparison, level: float | None = None) -> tuple[list[Verdict], Decision]:
    """Verdicts on everything that was measured. The comparison is not changed.

    Args:
        comparison: what was measured.
        level: confidence of each question; None for that of ``Comparison.level``.
    """
    level = level or comparison.level
    block_s = block_seconds(comparison)
    block = blocks_of(np.array(comparison.drive.times_s), block_s)
    asked: list[Callable[[Sides], tuple[Verdict, Answer]]] = [
        lambda sides: _latency(comparison, sides, 0.5),
        lambda sides: _latency(comparison, sides, 0.99),
        lambda sides: _sustained(comparison, sides),
        lambda sides: _accuracy(comparison, sides, "streaming", comparison.streaming, block, block_s),
        lambda sides: _accuracy(comparison, sides, "offline", comparison.offline, block, block_s),
    ]
    names = [model.name for model in comparison.models]
    verdicts = []
    for ask in asked:
        answers = [ask(sides) for sides in combinations(range(len(names)), 2)]
        known = [difference for _, (difference, _) in answers if difference is not None]
        intervals = iter(decided(known, level))
        for verdict, (difference, problem) in answers:
            interval, each = next(intervals) if difference is not None else (None, level)
            verdicts.append(_concluded(verdict, interval, each, problem, names))
    if problem := _too_few_pairs(comparison):
        return verdicts, Decision(None, False, f"No backbone is chosen: {problem}.")
    return verdicts, decide(names, verdicts)


def judged(comparison: Comparison) -> Comparison:
    """The comparison, with verdicts by the rule of this version in place of those of an earlier one."""
    if comparison.rule != RULE:
        comparison.verdicts, comparison.decision = judge(comparison)
        comparison.rule = RULE
    return comparison


def missing_pairs(comparison: Comparison) -> int:
    """Number of pairs of processes that a verdict lacks; 0 where there are enough."""
    return max(0, MIN_PAIRS - comparison.repetitions)


def undecided(verdicts: list[Verdict]) -> bool:
    """Whether more pairs of processes may decide more."""
    return any(v.question in MORE_PAIRS_DECIDE and v.difference and v.winner is None for v in verdicts)


def _runs(comparison: Comparison, model: int) -> list[Measured]:
    """Runs at the recorded rate, one of each process, in the order of the pairs."""
    runs = [run for run in comparison.runs if run.model == model and run.purpose == "recorded"]
    return sorted(runs, key=lambda run: run.repetition)


def _verdict(question: str, title: str, unit: str, lower_is_better: bool, sides: Sides) -> Verdict:
    return Verdict(question, title, unit, lower_is_better, [None, None], None, None, "", models=list(sides))


def _latency(comparison: Comparison, sides: Sides, q: float) -> tuple[Verdict, Answer]:
    verdict = _verdict("latency_p50", "Median latency", "ms", True, sides)
    if q != 0.5:
        verdict.question, verdict.title = "latency_p99", "99th percentile of latency"
    processes = [[run.latencies()[0] for run in _runs(comparison, model)] for model in sides]
    verdict.values = [
        mean_known(float(np.quantile(values, q)) for values in of_model if values.size) for of_model in processes
    ]
    if not all(len(of_model) and all(values.size for values in of_model) for of_model in processes):
        return verdict, (None, "a backbone masked no frame in one of its processes")
    if problem := _too_few_pairs(comparison):
        return verdict, (None, problem)
    difference = Units(quantile_differences(*processes, q))
    fewest = min(sum(map(len, of_model)) for of_model in processes)
    if q == 0.5:
        verdict.paired, verdict.paired_frames = _paired(comparison, sides)
    elif fewest < MIN_P99_MASKS:
        return verdict, (
            difference,
            f"a 99th percentile needs at least {MIN_P99_MASKS} masks of each, there are {fewest}",
        )
    return verdict, (difference, "")


def _paired(comparison: Comparison, sides: Sides) -> tuple[Difference | None, int]:
    """Median difference of the frames that both masked in a pair of processes, and how many such frames there are."""
    medians, count = [], 0
    for pair in zip(*(_runs(comparison, model) for model in sides), strict=True):
        a, b = (dict(zip(frame.tolist(), ms.tolist(), strict=True)) for ms, frame in (run.latencies() for run in pair))
        if shared := sorted(a.keys() & b.keys()):
            medians.append(float(np.median([b[frame] - a[frame] for frame in shared])))
            count += len(shared)
    if len(medians) < MIN_PAIRS:
        return None, 0
    return _bounds(Units(np.array(medians)).interval(LEVEL)), count


def _sustained(comparison: Comparison, sides: Sides) -> tuple[Verdict, Answer]:
    verdict = _verdict("sustained", "Masks per second at saturation", "Hz", False, sides)
    found = [
        {s.repetition: s.saturated_hz for s in comparison.sustained if s.model == model and s.saturated_hz is not None}
        for model in sides
    ]
    verdict.values = [mean_known(rates.values()) for rates in found]
    if None in verdict.values:
        return verdict, (None, "this was not measured")
    if problem := _too_few_pairs(comparison):
        return verdict, (None, problem)
    pairs = sorted(found[0].keys() & found[1].keys())
    if len(pairs) < MIN_PAIRS:
        return verdict, (None, f"only {len(pairs)} pairs of processes were saturated")
    return verdict, (Units(np.array([found[1][i] - found[0][i] for i in pairs])), "")


def _accuracy(
    comparison: Comparison, sides: Sides, question: str, scored: list[Scored], block: np.ndarray, block_s: float
) -> tuple[Verdict, Answer]:
    verdict = _verdict(question, f"{question.capitalize()} {comparison.taxonomy.headline}", "points", False, sides)
    of_models = [
        sorted((s for s in scored if s.model == model), key=lambda s: s.repetition) for model in sides
    ]  # fmt: skip
    verdict.values = [mean_known(s.headline for s in of_model) for of_model in of_models]
    if None in verdict.values:
        truth = comparison.drive.truth
        return verdict, (None, "this was not measured" if truth else "the drive carries no ground truth")
    # The masks of a frame do not vary offline, so that one pass over the drive is enough.
    if question == "streaming" and (problem := _too_few_pairs(comparison)):
        return verdict, (None, problem)
    if not all(s.frame for of_model in of_models for s in of_model):
        return verdict, (None, "this file keeps no scores of single frames")
    blocks = int(block.max()) + 1
    verdict.block_s = block_s
    if blocks < MIN_BLOCKS:
        seconds = blocks * block_s
        return verdict, (
            None,
            f"the drive is too short, {seconds:.0f} s where an interval needs at least {MIN_BLOCKS} blocks of"
            f" {block_s:.1f} s",
        )
    of_blocks = miou_differences(*(_counts(of_model, block) for of_model in of_models), blocks)
    if question == "offline":
        return verdict, (Units(of_blocks), "")
    pairs = np.array([b.headline - a.headline for a, b in zip(*of_models, strict=True)])
    return verdict, (Units(pairs, of_blocks), "")


def _counts(scored: list[Scored], block: np.ndarray) -> IouCounts:
    return IouCounts(
        hits=np.concatenate([np.array(s.hits) for s in scored]),
        unions=np.concatenate([np.array(s.unions) for s in scored]),
        block=np.concatenate([block[s.frame] for s in scored]),
    )


def block_seconds(comparison: Comparison) -> float:
    """Length of a block: what the autocorrelation of the difference asks for, within limits."""
    times = np.array(comparison.drive.times_s)
    estimated = estimated_block_seconds(comparison)
    return max(BLOCK_S, estimated or 0.0, float(np.ptp(times)) / MAX_BLOCKS)


def estimated_block_seconds(comparison: Comparison) -> float | None:
    """Longest block that the autocorrelation of the difference of two backbones asks for, see ``block_length``.

    The series is the difference of the streaming scores of each frame, averaged over the processes; None without any.
    """
    frames = len(comparison.drive.times_s)
    series = []
    for model in range(len(comparison.models)):
        values = np.full((1, frames), np.nan)
        for scored in comparison.streaming:
            if scored.model == model and scored.frame:
                row = np.full((1, frames), np.nan)
                row[0, scored.frame] = scored.per_frame()
                values = np.concatenate([values, row])
        known = np.isfinite(values).any(0)
        series.append(np.where(known, np.nansum(values, 0) / np.maximum(np.isfinite(values).sum(0), 1), np.nan))
    lengths = []
    for a, b in combinations(series, 2):
        difference = (b - a)[np.isfinite(b - a)]
        if difference.size:
            lengths.append(block_length(difference) / comparison.drive.rate_hz)
    return max(lengths, default=None)


def _too_few_pairs(comparison: Comparison) -> str:
    """Why nothing is said that varies between processes; empty where there are enough of them."""
    if comparison.configuration.get("attached"):
        return "nodes that run already are one process each, and latency varies between processes"
    if missing := missing_pairs(comparison):
        return (
            f"not enough pairs of processes for a verdict, {comparison.repetitions} of at least {MIN_PAIRS} were"
            f" measured; {missing} more {'is' if missing == 1 else 'are'} needed (--repetitions {MIN_PAIRS})"
        )
    return ""


def _concluded(verdict: Verdict, interval: Interval | None, level: float, problem: str, names: list[str]) -> Verdict:
    """Fill in difference, winner and reason."""
    if interval is None:
        verdict.reason = f"No verdict: {problem}."
        return verdict
    verdict.difference, verdict.level = _bounds(interval), level
    bounds = f" ({100 * level:.4g} % interval {signed(interval.low)} to {signed(interval.high)} {verdict.unit})"
    if problem or not interval.sign:
        verdict.reason = f"No clear winner: {problem or 'the interval of the difference includes zero'}{bounds}."
        return verdict
    first, second = (names[model] for model in verdict.models)
    verdict.winner = verdict.models[int((interval.sign > 0) != verdict.lower_is_better)]
    verdict.reason = (
        f"{names[verdict.winner]} is better: {second} minus {first} is {signed(interval.estimate)}"
        f" {verdict.unit}{bounds}."
    )
    return verdict


def _bounds(interval: Interval) -> Difference:
    return Difference(interval.estimate, interval.low, interval.high)


_ADVANTAGES = {
    "latency_p50": "{amount} ms shorter median latency",
    "latency_p99": "{amount} ms shorter 99th percentile",
    "sustained": "{amount} more masks per second",
    "streaming": "{amount} points more {title}",
    "offline": "{amount} points more {title}",
}
_SHORT = {
    "latency_p50": "median latency",
    "latency_p99": "99th percentile of latency",
    "sustained": "masks per second",
    "streaming": "streaming accuracy",
    "offline": "offline accuracy",
}


def decide(names: list[str], verdicts: list[Verdict]) -> Decision:
    """One answer out of all verdicts.

    A backbone is named where it alone loses no question to another, and accuracy was measured. Where each loses
    something the choice is a trade, which no statistics can make.
    """
    clear = [verdict for verdict in verdicts if verdict.winner is not None]
    if not clear:
        return Decision(None, False, f"No clear winner: every difference between {_listed(names)} may be chance.")
    beaten = {model for verdict in clear for model in verdict.models if model != verdict.winner}
    unbeaten = [model for model in range(len(names)) if model not in beaten]
    gains = "; ".join(
        f"{names[model]} has {_gains(names, clear, model)}" for model in sorted({v.winner for v in clear})
    )
    if not unbeaten:
        beaten: dict[int, list[str]] = {}
        for verdict in clear:
            if verdict.question == "streaming":
                beaten.setdefault(verdict.winner, []).extend(names[m] for m in verdict.models if m != verdict.winner)
        hint = "".join(
            f" Streaming accuracy, which holds late masks against a backbone, favours {names[winner]}"
            f"{f' over {_listed(others)}' if len(names) > 2 else ''}."
            for winner, others in beaten.items()
        )
        return Decision(None, True, f"The choice is a trade: {gains}.{hint}")
    if len(unbeaten) > 1:
        behind = _listed([names[model] for model in sorted(beaten)])
        return Decision(
            None,
            False,
            f"No clear winner: {_listed([names[model] for model in unbeaten])} are not told apart; {behind}"
            f" {'is' if len(beaten) == 1 else 'are'} behind ({gains}).",
        )
    winner = unbeaten[0]
    if not any(v.question in ACCURACY and None not in v.values for v in verdicts):
        return Decision(
            None,
            False,
            f"{names[winner]} is faster, with {_gains(names, clear, winner)}; without ground truth nothing is known of"
            " accuracy, so no backbone is chosen.",
        )
    open_questions = _listed(
        list(dict.fromkeys(_SHORT[v.question] for v in verdicts if winner in v.models and v.winner is None))
    )
    rest = f"; no clear winner in {open_questions}" if open_questions else ", and is behind in nothing"
    return Decision(winner, False, f"{names[winner]} should drive: it has {_gains(names, clear, winner)}{rest}.")


def _gains(names: list[str], clear: list[Verdict], model: int) -> str:
    """What a backbone has ahead of others, one after the other."""
    by_other: dict[str, list[str]] = {}
    for verdict in clear:
        if verdict.winner == model:
            by_other.setdefault(_over(names, verdict), []).append(_advantage(verdict))
    return _listed([_listed(advantages) + over for over, advantages in by_other.items()])


def _over(names: list[str], verdict: Verdict) -> str:
    """Whom the winner is ahead of, where there is more than one other."""
    return "" if len(names) == 2 else f" than {names[next(m for m in verdict.models if m != verdict.winner)]}"


def _advantage(verdict: Verdict) -> str:
    amount = abs(verdict.difference.estimate)
    shown = f"{amount:.0f}" if verdict.unit == "ms" else f"{amount:.1f}"
    return _ADVANTAGES[verdict.question].format(amount=shown, title=verdict.title.lower())


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
