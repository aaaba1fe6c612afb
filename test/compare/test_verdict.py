"""Verdicts on made-up experiments."""

import re

import pytest
from helpers.made_up import HZ, experiment, simulated_run

from seg_node.compare import tables
from seg_node.compare.comparison import Comparison, FrameColumns, load_comparison
from seg_node.compare.text import method, to_text
from seg_node.compare.verdict import RULE, judge, judged, missing_pairs, undecided


def winners(comparison: Comparison) -> dict[str, str | None]:
    names = [model.name for model in comparison.models]
    return {v.question: None if v.winner is None else names[v.winner] for v in comparison.verdicts}


def reason(comparison: Comparison, question: str) -> str:
    return next(v.reason for v in comparison.verdicts if v.question == question)


def test_faster_and_better_backbone_should_drive():
    found = experiment((300.0, 200.0), (0.5, 0.6))
    assert set(winners(found).values()) == {"beta"}
    assert found.decision.winner == 1 and not found.decision.trade
    assert re.match("beta should drive: it has (9|10)", found.decision.sentence)
    assert not undecided(found.verdicts)
    by_question = {v.question: v for v in found.verdicts}
    assert by_question["latency_p50"].difference.estimate == pytest.approx(-100, abs=15)
    assert by_question["sustained"].difference.estimate == pytest.approx(1000 / 200 - 1000 / 300, abs=0.1)
    assert by_question["offline"].difference.estimate == pytest.approx(
        found.offline[1].miou_7 - found.offline[0].miou_7, abs=0.01
    )
    assert by_question["latency_p50"].paired_frames > 30


def test_faster_but_worse_is_a_trade_in_numbers():
    found = experiment((300.0, 200.0), (0.6, 0.5))
    assert winners(found)["latency_p50"] == "beta" and winners(found)["offline"] == "alpha"
    assert found.decision.winner is None and found.decision.trade
    assert re.search(r"trade: alpha has .*points more.* beta has \d?\d\d ms shorter", found.decision.sentence)


def test_equal_backbones_have_no_winner():
    found = experiment((250.0, 250.0), (0.55, 0.55))
    assert set(winners(found).values()) == {None}
    assert all("includes zero" in reason(found, question) for question in winners(found))
    assert found.decision.winner is None
    assert found.decision.sentence == "No clear winner: every difference between alpha and beta may be chance."
    assert undecided(found.verdicts)


def test_no_accuracy_without_ground_truth():
    found = experiment((300.0, 200.0), None)
    assert "no ground truth" in reason(found, "streaming") and "no ground truth" in reason(found, "offline")
    assert winners(found)["latency_p50"] == "beta"
    assert found.decision.winner is None and "nothing is known of accuracy" in found.decision.sentence


@pytest.mark.parametrize("repetitions", [1, 2, 4])
def test_few_processes_have_figures_and_no_verdict(repetitions):
    """Two processes of each made a winner of chance: what varies between processes needs at least five of each."""
    found = experiment((300.0, 200.0), (0.5, 0.6), repetitions=repetitions)
    assert winners(found) == dict.fromkeys(("latency_p50", "latency_p99", "sustained", "streaming")) | {
        "offline": "beta"
    }
    assert all(None not in verdict.values for verdict in found.verdicts)
    more = f"{5 - repetitions} more {'is' if repetitions == 4 else 'are'} needed (--repetitions 5)"
    assert found.decision.sentence == (
        "No backbone is chosen: not enough pairs of processes for a verdict,"
        f" {repetitions} of at least 5 were measured; {more}."
    )
    assert more in to_text(found)
    assert [row[-1] for row in tables.verdicts(found)[1]] == [tables.NO_VERDICT] * 4 + ["beta"]


def test_verdicts_of_an_earlier_rule_are_made_anew(tmp_path):
    """Two processes of each and a winner, as files of before the rule have it; a file of this rule is left as it is."""
    old = experiment((300.0, 200.0), (0.5, 0.6), repetitions=2)
    old.rule, old.verdicts[2].winner = "", 1
    old.decision.sentence = "beta is faster, with 1.8 Hz higher sustained rate."
    old.save(tmp_path / "old.json")
    found = judged(load_comparison(tmp_path / "old.json"))
    assert found.rule == RULE and missing_pairs(found) == 3
    assert found.verdicts[2].winner is None and "3 more are needed" in found.decision.sentence
    assert "1.8 Hz" not in to_text(found)
    current = experiment((300.0, 200.0), (0.5, 0.6))
    current.rule, current.decision.sentence = RULE, "as it was judged"
    assert judged(current).decision.sentence == "as it was judged" and missing_pairs(current) == 0


def test_nodes_that_run_already_are_one_process_each():
    found = experiment((300.0, 200.0), (0.5, 0.6))
    found.configuration["attached"] = ["/a/segmentation", "/b/segmentation"]
    verdicts, decision = judge(found)
    assert [v.winner for v in verdicts] == [None, None, None, None, 1]
    assert "one process each" in decision.sentence


def test_spread_between_processes_hides_a_difference():
    """The masks of a process agree with each other, and say nothing of the next process."""
    calm, wild = (experiment((300.0, 275.0), None, spread_ms=spread) for spread in (2.0, 25.0))
    assert winners(calm)["latency_p50"] == "beta"
    assert winners(wild)["latency_p50"] is None


def test_streaming_takes_the_wider_of_scene_and_process():
    found = experiment((250.0, 250.0), (0.5, 0.6))
    narrow = next(v for v in found.verdicts if v.question == "streaming").difference
    for i, scored in enumerate(found.streaming):
        scored.miou_7 += 20.0 * (-1) ** i * (scored.repetition % 2)
    wide = next(v for v in judge(found)[0] if v.question == "streaming").difference
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_more_looks_make_wider_intervals():
    found = experiment((300.0, 295.0))
    once = judge(found)[0][0].difference
    found.configuration["looks"] = 6
    often = judge(found)[0][0]
    assert often.level == pytest.approx(1 - 0.01 / 6) and f"{100 * often.level:.4g} %" in often.reason
    assert often.difference.low < once.low and often.difference.high > once.high
    assert "6 possible looks" in method(found)


def test_three_backbones_are_compared_in_pairs():
    found = experiment((300.0, 200.0, 301.0), (0.5, 0.6, 0.5))
    assert len(found.verdicts) == 3 * 5
    assert found.decision.winner == 1 and "beta should drive" in found.decision.sentence
    said = found.decision.sentence
    assert "shorter median latency, " in said and " than alpha and " in said and said.count(" than gamma") == 1
    medians = [v for v in found.verdicts if v.question == "latency_p50"]
    assert [(v.models, v.winner) for v in medians] == [([0, 1], 1), ([0, 2], None), ([1, 2], 1)]
    text = to_text(found)
    assert "gamma minus alpha" in text and "beta over alpha, beta over gamma" in text


def test_the_best_of_three_in_nothing_is_a_trade():
    found = experiment((200.0, 250.0, 300.0), (0.4, 0.5, 0.6))
    assert found.decision.trade and all(name in found.decision.sentence for name in ("alpha", "beta", "gamma"))


def test_two_of_three_that_are_not_told_apart():
    found = experiment((200.0, 200.0, 300.0), (0.6, 0.6, 0.5))
    assert found.decision.winner is None and not found.decision.trade
    assert found.decision.sentence.startswith("No clear winner: alpha and beta are not told apart; gamma is behind (")


def test_short_drive_has_no_winner():
    found = experiment((300.0, 200.0), (0.5, 0.6), frames=90)
    assert "too short, 3 s" in reason(found, "offline") and "too short" in reason(found, "streaming")


def test_99th_percentile_needs_a_hundred_masks():
    found = experiment((300.0, 200.0))
    for run in found.runs:
        if run.purpose == "recorded":
            run.warm_up = 240
    verdicts, _ = judge(found)
    assert "needs at least 100 masks" in next(v.reason for v in verdicts if v.question == "latency_p99")


def test_processes_that_disagree_have_no_winner():
    found = experiment((300.0, 240.0))
    # In every second pair it is the other way round.
    for run in found.runs:
        if run.purpose == "recorded" and run.repetition % 2:
            run.frames = FrameColumns.of(simulated_run((240.0, 300.0)[run.model], 20, HZ, 300))
    verdict = judge(found)[0][0]
    assert verdict.winner is None and "includes zero" in verdict.reason
    assert verdict.difference.low < -30 and verdict.difference.high > 30


def test_a_process_without_a_mask_is_named():
    found = experiment((300.0, 240.0))
    found.runs[0].frames.mask = [None] * len(found.runs[0].frames.mask)
    assert judge(found)[0][0].reason == "No verdict: a backbone masked no frame in one of its processes."
