"""Whether a tuning threw anything better away: every candidate there is plays the whole drive in the real node.

    python benchmarks/tune_exhaustive.py --tuned tune_output/tune.json [options of seg_node tune] [--out FOLDER]

Each setting plays it once; then the best three and the winner of the tuning play it again in fresh processes and in
turns. Takes a quarter of a minute for each setting: a hundred of them for three bundles on OpenVINO alone. What was
measured is kept in ``FOLDER/state.json``, and a run that was ended goes on from there. Writes ``tune_exhaustive.json``.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from seg_node.commands import tune
from seg_node.commands.options import exit_on_sigterm
from seg_node.core.errors import UserError, exit_status
from seg_node.core.machine import setting
from seg_node.tune.candidates import Candidate, Setting, input_sizes, settings_at_own_size, thread_counts
from seg_node.tune.choice import best
from seg_node.tune.plan import OVERHEAD_S
from seg_node.tune.tuning import Tuning

_FINALISTS = 3


def all_settings(tuning: Tuning) -> list[Setting]:
    """Everything that could be tried, without a look at how fast it is."""
    return [
        dataclasses.replace(own, input_size=size, threads=threads)
        for own in settings_at_own_size(tuning.bundles, tuning.engines)
        for size in input_sizes(tuning.bundles[own.model])
        for threads in (0, *thread_counts(tuning.cores))
    ]


def measure(tuning: Tuning, winner: str) -> dict[str, Any]:
    """Measure all of it.

    Args:
        tuning: has measured nothing.
        winner: key of the candidate that won.

    Returns:
        ``trials`` and ``finals``, see ``seg_node.tune.tuning.Found``; ``winner`` and ``best``, keys; ``kept``, whether
        the winner is the best or chance may have decided between the two.

    Raises:
        UserError: the winner is none of the candidates.
    """
    settings = all_settings(tuning)
    candidates = {one.key: one for s in settings for one in (Candidate(s, True), Candidate(s, False))}
    if winner not in candidates:
        raise UserError(f"the winner {winner!r} is no candidate here; give the options of that tuning")
    trial_s = tuning.drive.duration + OVERHEAD_S
    with tuning.timed(trial_s * (len(settings) + (_FINALISTS + 1) * tuning.plan.repetitions)):
        rows = tuning.play(settings, tuning.drive, 0)
        finalists = [candidates[rows[i]["candidate"]] for i in best(rows, tuning.asked, _FINALISTS)]
        tuning.finals(list(dict.fromkeys([*finalists, candidates[winner]])))
    finals = tuning.found.finals
    gap = next(row["behind"] for row in finals if row["candidate"] == winner)
    return {
        "winner": winner,
        "best": finals[0]["candidate"],
        "kept": gap is None or gap["low"] <= 0,
        "finals": finals,
        "trials": tuning.found.trials,
        "notes": tuning.found.notes,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuned", type=Path, required=True, metavar="JSON", help="what the tuning wrote")
    tune.add_arguments(parser)
    parser.set_defaults(out=Path("bench_output"), minutes=20.0)
    options = parser.parse_args(arguments)

    def run() -> int:
        winner = json.loads(options.tuned.read_text())["winner"]
        tuning, facts = tune.prepare(options)
        found = {**facts, **measure(tuning, winner), "machine": setting()}
        file = options.out / "tune_exhaustive.json"
        file.write_text(json.dumps(found, indent=1) + "\n")
        word = "within the interval of" if found["kept"] else "worse than"
        print(f"\nthe winner of the tuning, {winner}, is {word} the best of all, {found['best']}; written: {file}")
        return 0 if found["kept"] else 1

    return exit_status(run)


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
