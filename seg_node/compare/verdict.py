"""Which backbone should drive: one verdict for each question, and one over all of them.

No winner is named where the difference may be chance: its interval includes zero (as it does where repetitions disagree
about its sign, because they are drawn, too), or there is too little data for the question. ``replay.statistics`` says
how the intervals are made.
"""

import numpy as np

from seg_node.compare.comparison import Comparison, Decision, Difference, Scored, Sustained, Verdict
from seg_node.compare.statistics import (
    LEVEL,
    Draws,
    Interval,
    IouCounts,
    Samples,
    blocks_of,
    miou_difference,
    paired_difference,
    quantile_difference,
)
from seg_node.core.report.tables import signed
from seg_node.core.statistics import mean_known

BLOCK_S = 1.0
"""Length of a block of the drive: longer than what neighbouring frames have in common at driving speed."""
MIN_BLOCKS = 8
"""With fewer blocks an interval says little: so short a drive gets no verdict from it."""
MAX_BLOCKS = 200
"""Blocks of long drives are longer: more of them would say no more, and take time and memory."""
MIN_REPETITIONS = 2
"""A single run of each cannot tell two backbones apart from two runs."""
MIN_P99_MASKS = 100
"""With fewer masks the 99th percentile is the slowest of them."""

ACCURACY = ("streaming", "offline")


def judge(comparison: Comparison) -> tuple[list[Verdict], Decision]:
    """Verdicts on everything that was measured. The comparison is not changed."""
    times = np.array(comparison.drive.times_s)
    block = blocks_of(times, max(BLOCK_S, float(np.ptp(times)) / MAX_BLOCKS))
    verdicts = [
        _latency(comparison, block, 0.5),
        _latency(comparison, block, 0.99),
        _sustained(comparison),
        _accuracy(comparison, block, "streaming", "Streaming", comparison.streaming),
        _accuracy(comparison, block, "offline", "Offline", comparison.offline),
    ]
    if problem := _too_little(block, comparison.repetitions):
        return verdicts, Decision(None, False, f"No backbone is chosen: {problem}.")
    return verdicts, decide([model.name for model in comparison.models], verdicts)


def recorded_samples(comparison: Comparison, model: int, block: np.ndarray) -> Samples:
    """Camera to mask at the recorded rate, of all repetitions of one backbone."""
    values, frames, repetitions = [np.empty(0)], [np.empty(0, int)], [np.empty(0, int)]
    for run in comparison.runs:
        if run.model == model and run.purpose == "recorded":
            latency, frame = run.latencies()
            values.append(latency)
            frames.append(frame)
            repetitions.append(np.full(len(frame), run.repetition))
    frame = np.concatenate(frames)
    return Samples(np.concatenate(values), frame, block[frame], np.concatenate(repetitions))


def _latency(comparison: Comparison, block: np.ndarray, q: float) -> Verdict:
    a, b = (recorded_samples(comparison, model, block) for model in (0, 1))
    median = q == 0.5
    verdict = Verdict(
        question="latency_p50" if median else "latency_p99",
        title="Median latency" if median else "99th percentile of latency",
        unit="ms",
        lower_is_better=True,
        values=[float(np.quantile(s.values, q)) if s.values.size else None for s in (a, b)],
        difference=None,
        winner=None,
        reason="",
    )
    fewest = min(a.values.size, b.values.size)
    if not fewest:
        verdict.reason = "No winner: a backbone masked no frame."
        return verdict
    names = [model.name for model in comparison.models]
    problem = _too_little(block, comparison.repetitions)
    if problem:
        return _concluded(verdict, None, problem, names)
    draws = Draws(int(block.max()) + 1, comparison.repetitions)
    if median and (paired := paired_difference(a, b, draws)):
        verdict.paired, verdict.paired_frames = _difference(paired[0]), paired[1]
    elif not median and fewest < MIN_P99_MASKS:
        problem = f"a 99th percentile needs at least {MIN_P99_MASKS} masks of each, there are {fewest}"
    interval = quantile_difference(a, b, q, draws)
    return _concluded(verdict, interval, problem or _undecided(interval), names)


def _accuracy(comparison: Comparison, block: np.ndarray, question: str, title: str, scored: list[Scored]) -> Verdict:
    pairs = [[s for s in scored if s.model == model] for model in (0, 1)]
    verdict = Verdict(
        question=question,
        title=f"{title} miou_7",
        unit="points",
        lower_is_better=False,
        values=[mean_known(s.miou_7 for s in of_model) for of_model in pairs],
        difference=None,
        winner=None,
        reason="",
    )
    if None in verdict.values:
        verdict.reason = (
            "No verdict: the drive carries no ground truth."
            if not comparison.drive.truth
            else "No verdict: this was not measured."
        )
        return verdict
    names = [model.name for model in comparison.models]
    repetitions = 1 + max(s.repetition for s in scored)
    # The masks of a frame do not vary offline, so that one pass over the drive is enough.
    problem = _too_little(block, repetitions if question == "streaming" else MIN_REPETITIONS)
    if problem:
        return _concluded(verdict, None, problem, names)
    a, b = (_counts(of_model, block) for of_model in pairs)
    interval = miou_difference(a, b, Draws(int(block.max()) + 1, repetitions))
    return _concluded(verdict, interval, _undecided(interval), names)


def _counts(scored: list[Scored], block: np.ndarray) -> IouCounts:
    return IouCounts(
        hits=np.concatenate([np.array(s.hits) for s in scored]),
        unions=np.concatenate([np.array(s.unions) for s in scored]),
        block=np.concatenate([block[s.frame] for s in scored]),
        repetition=np.concatenate([np.full(len(s.frame), s.repetition) for s in scored]),
    )


def _sustained(comparison: Comparison) -> Verdict:
    searches = [[s for s in comparison.sustained if s.model == model] for model in (0, 1)]
    verdict = Verdict(
        question="sustained",
        title="Sustained rate",
        unit="Hz",
        lower_is_better=False,
        values=[mean_known(s.hz for s in found) for found in searches],
        difference=None,
        winner=None,
        reason="",
    )
    if not all(searches):
        verdict.reason = "No verdict: this was not measured."
        return verdict
    (low_a, high_a), (low_b, high_b) = map(_bracket, searches)
    estimate = (verdict.values[1] or 0.0) - (verdict.values[0] or 0.0)
    interval = Interval(estimate, low_b - high_a, high_b - low_a)
    problem = ""
    if comparison.repetitions < MIN_REPETITIONS:
        problem = "one run of each cannot tell two backbones apart from two runs"
    elif interval.sign == 0:
        problem = f"what the searches leave open overlaps ({_span(low_a, high_a)} and {_span(low_b, high_b)} Hz)"
    return _concluded(verdict, interval, problem, [model.name for model in comparison.models])


def _bracket(searches: list[Sustained]) -> tuple[float, float]:
    """What all searches together leave open: from the lowest rate that passed to the highest that failed above one."""
    return (
        min(search.hz or 0.0 for search in searches),
        max(np.inf if search.ceiling is None else search.ceiling for search in searches),
    )


def _span(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if np.isfinite(high) else f"above {low:.2f}"


def _too_little(block: np.ndarray, repetitions: int) -> str:
    if repetitions < MIN_REPETITIONS:
        return "one run of each cannot tell two backbones apart from two runs"
    if (blocks := int(block.max()) + 1) < MIN_BLOCKS:
        return f"the drive is too short, {blocks} s where an interval needs at least {MIN_BLOCKS}"
    return ""


def _undecided(interval: Interval) -> str:
    return "" if interval.sign else "the interval of the difference includes zero"


def _concluded(verdict: Verdict, interval: Interval | None, problem: str, names: list[str]) -> Verdict:
    """Fill in difference, winner and reason."""
    bounds = ""
    if interval is not None:
        verdict.difference = _difference(interval)
        kind = "the searches leave open" if verdict.question == "sustained" else f"{100 * LEVEL:.0f} % interval"
        if np.isfinite([interval.low, interval.high]).any():
            bounds = f" ({kind} {signed(interval.low)} to {signed(interval.high)} {verdict.unit})"
    if problem:
        verdict.reason = f"No winner: {problem}{bounds}."
        return verdict
    verdict.winner = int((interval.sign > 0) != verdict.lower_is_better)
    verdict.reason = (
        f"{names[verdict.winner]} is better: {names[1]} minus {names[0]} is {signed(interval.estimate)}"
        f" {verdict.unit}{bounds}."
    )
    return verdict


def _difference(interval: Interval) -> Difference:
    low, high = (float(v) if np.isfinite(v) else None for v in (interval.low, interval.high))
    return Difference(interval.estimate, low, high)


_ADVANTAGES = {
    "latency_p50": "{amount} ms shorter median latency",
    "latency_p99": "{amount} ms shorter 99th percentile",
    "sustained": "{amount} Hz higher sustained rate",
    "streaming": "{amount} points more streaming miou_7",
    "offline": "{amount} points more offline miou_7",
}


def decide(names: list[str], verdicts: list[Verdict]) -> Decision:
    """One answer out of all verdicts.

    A backbone is named where it wins at least one question and loses none, and accuracy was measured. Where each wins
    something the choice is a trade, which no statistics can make.
    """
    won = [[verdict for verdict in verdicts if verdict.winner == model] for model in (0, 1)]
    measured = [v for v in verdicts if v.question in ACCURACY and None not in v.values]
    gains = [_listed([_advantage(v) for v in of_model]) for of_model in won]
    if won[0] and won[1]:
        streaming = next((v for v in verdicts if v.question == "streaming" and v.winner is not None), None)
        hint = ""
        if streaming:
            hint = f" Streaming accuracy, which holds late masks against a backbone, favours {names[streaming.winner]}."
        return Decision(
            None,
            True,
            f"The choice is a trade: {names[0]} has {gains[0]}; {names[1]} has {gains[1]}.{hint}",
        )
    if not won[0] and not won[1]:
        return Decision(None, False, "No backbone is better: no question has a winner that may not be chance.")
    winner = 0 if won[0] else 1
    if not measured:
        return Decision(
            None,
            False,
            f"{names[winner]} is faster, with {gains[winner]}; without ground truth nothing is known of accuracy,"
            " so neither backbone is chosen.",
        )
    open_questions = _listed([_SHORT[v.question] for v in verdicts if v.winner is None])
    rest = f"; no winner in {open_questions}" if open_questions else ", and is behind in nothing"
    return Decision(winner, False, f"{names[winner]} should drive: it has {gains[winner]}{rest}.")


_SHORT = {
    "latency_p50": "median latency",
    "latency_p99": "99th percentile of latency",
    "sustained": "sustained rate",
    "streaming": "streaming accuracy",
    "offline": "offline accuracy",
}


def _advantage(verdict: Verdict) -> str:
    amount = abs(verdict.difference.estimate)
    return _ADVANTAGES[verdict.question].format(amount=f"{amount:.0f}" if verdict.unit == "ms" else f"{amount:.1f}")


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
