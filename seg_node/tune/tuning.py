"""The whole tuning: all settings by themselves, some in the real node on pieces of the drive, the best on all of it."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.compare.plan import turns
from seg_node.core.bundle import Bundle
from seg_node.core.errors import RunError
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.plan_bar import PlanBar
from seg_node.tune.candidates import Candidate, Setting, thread_counts
from seg_node.tune.choice import Asked, best, entrants
from seg_node.tune.final import behind, final_row
from seg_node.tune.plan import OVERHEAD_S, VARIED, Plan
from seg_node.tune.screen import screen
from seg_node.tune.state import State
from seg_node.tune.trial import run_trial, score

_SAMPLE = 8
"""Frames of the offline score of a setting."""
_SEED = 20200824
_LEAST_REPETITIONS = 2

MakeNode = Callable[[Setting, Drive, Path, bool], NodeProcess]
"""Makes a node for a setting, a drive and a log that computes the mask of now or not; not started yet."""


@dataclass
class Found:
    """What is known, also where a tuning was ended."""

    screened: list[dict[str, Any]] = field(default_factory=list)
    """See ``screen.measure``."""
    trials: list[dict[str, Any]] = field(default_factory=list)
    """Candidates on pieces of the drive: ``candidate``, ``setting``, ``topic``, ``round``, ``score``, ``age_ms``..."""
    finals: list[dict[str, Any]] = field(default_factory=list)
    """See ``final.final_row``."""
    notes: list[str] = field(default_factory=list)
    """What was left out and what failed, for people."""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    """Candidates by their key."""


@dataclass
class Tuning:
    """Measures; what it knows is in ``found`` at any time.

    Args:
        drive: all of it.
        truth: ground truth, uint8 [H, W], by header stamp.
        bundles: by the name or path that the node takes.
        engines: to try.
        cores: of the processor.
        asked: of the winner.
        plan: how the time is spent.
        state: keeps what is measured.
        make_node: see ``MakeNode``.
        folder: for logs.
        against: a setting that is measured in the finals, with ``~/mask``, whatever becomes of it.
    """

    drive: Drive
    truth: Mapping[int, np.ndarray]
    bundles: Mapping[str, Bundle]
    engines: Sequence[str]
    cores: int
    asked: Asked
    plan: Plan
    state: State
    make_node: MakeNode
    folder: Path
    against: Setting | None = None
    found: Found = field(default_factory=Found)

    def run(self) -> None:
        """Measure everything.

        Raises:
            RunError: no setting can be run, or none masked anything in the node.
        """
        with self.timed(self.plan.expected):
            self.finals(self._halve(self._enter()))

    @contextlib.contextmanager
    def timed(self, seconds: float) -> Iterator[None]:
        """Count the time of what is done within from now on, and show a bar for so many seconds of it."""
        self._began = time.monotonic()
        with PlanBar(seconds) as self._bar:
            yield

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _enter(self) -> list[Setting]:
        """Settings of the first round, by bare time and offline score."""
        measured: list[tuple[Setting, dict[str, Any]]] = []
        with self._bar.step("bare inference of every setting", self.plan.screen_s):
            sample = self._sample()
            found = screen(
                self.bundles, self.engines, sample, self.state.remember, lambda: self._elapsed() > self.plan.screen_s
            )
            for setting, row in found:
                measured.append((setting, row))
                self.found.screened.append(row)
        usable = [(setting, row) for setting, row in measured if row["miou_7"] is not None]
        if not usable:
            reasons = "; ".join(sorted({row["refusal"] for _, row in measured if row["refusal"]}))
            raise RunError(f"no model can be run here: {reasons or 'there is no engine for any of them'}")
        # What takes longer by itself does not come in time in a node either.
        deadline = self.asked.deadline
        fast = [pair for pair in usable if deadline is None or pair[1]["inference_ms"] <= deadline]
        points = [(row["inference_ms"], row["miou_7"]) for _, row in fast]
        chosen = [fast[i][0] for i in entrants(points, self.plan.entrants)]
        if len(chosen) < self.plan.finalists:
            # Those that come nearest, for who has asked for more than there is.
            near = sorted(usable, key=lambda pair: pair[1]["inference_ms"])
            chosen += [setting for setting, _ in near if setting not in chosen]
        return chosen[: self.plan.entrants]

    def _sample(self) -> list[tuple[np.ndarray, np.ndarray]]:
        known = [frame for frame in self.drive.frames if frame.stamp in self.truth]
        chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, _SAMPLE).astype(int))]
        pairs = [(decode(frame), self.truth[frame.stamp]) for frame in chosen]
        return [(image, truth) for image, truth in pairs if image is not None]

    def _halve(self, entered: list[Setting]) -> list[Candidate]:
        """Candidates of the finals, by the score in the real node on pieces of the drive."""
        plan = self.plan
        counts = plan.counts(len(entered))
        settings = entered
        for number, count in enumerate(counts):
            settings = settings[:count]
            last = number == len(counts) - 1
            piece = self._piece(plan.pieces[min(number, len(plan.pieces) - 1)], number, len(counts))
            rows = self.play(settings, piece, number)
            if last:
                varied = [self._candidate(rows[i]).setting for i in best(rows, self.asked, len(rows))]
                varied = list(dict.fromkeys(varied))[:VARIED]
                more = [dataclasses.replace(s, threads=n) for s in varied for n in thread_counts(self.cores)]
                rows += self.play(more, piece, number)
            order = best(rows, self.asked, len(rows))
            if not order:
                raise RunError(f"no node masked a frame of {self.drive.path}: " + "; ".join(self.found.notes))
            # Of one setting both topics were scored; it goes on with the better one.
            settings = list(dict.fromkeys(self._candidate(rows[i]).setting for i in order))
        ranked = [self._candidate(rows[i]) for i in order]
        return ranked[: plan.finalists]

    def play(self, settings: Sequence[Setting], piece: Drive, number: int) -> list[dict[str, Any]]:
        """Play a piece of the drive with settings; returns rows of ``Found.trials`` of both topics of each.

        Args:
            settings: each for a fresh node.
            piece: of the drive.
            number: of the round, from 0.
        """
        rows = []
        for setting in settings:
            title = f"round {number + 1}: {setting.key}"
            played = self._trial(title, f"round {_span(piece)} {setting.key}", setting, piece, True)
            for topic, columns in (played or {}).get("scored", {}).items():
                candidate = Candidate(setting, topic == "mask_now")
                if (points := score(columns)) is not None and played["age_ms"] is not None:
                    row = {"candidate": candidate.key, "setting": setting.key, "topic": candidate.topic}
                    row |= {"round": number + 1, "score": round(points, 2), "age_ms": played["age_ms"]["p95"]}
                    row |= {name: played[name] for name in ("masks_per_s", "cpu_cores", "rss_mb")}
                    self.found.candidates[candidate.key] = candidate
                    rows.append(row | {"use_ms": columns["use_ms"]})
        self.found.trials += rows
        return rows

    def _trial(self, title: str, key: str, setting: Setting, drive: Drive, listen: bool) -> dict[str, Any] | None:
        """Row of ``run_trial``; None where the node failed, which is noted."""

        def play() -> dict[str, Any]:
            logs = self.folder / "".join(c if c.isalnum() else "_" for c in key.replace(" ", "-"))[-100:]
            node = self.make_node(setting, drive, logs / "node.log", listen)
            try:
                return run_trial(drive, self.truth, node, logs, listen)
            except RunError as error:
                return {"failed": str(error).splitlines()[0]}

        with self._bar.step(title, drive.duration + OVERHEAD_S):
            row = self.state.remember(key, play)
        if reason := row.get("failed"):
            self.found.notes.append(f"{setting.key}: {reason}")
            return None
        self.found.notes += [f"{setting.key}: {fault}" for fault in row["faults"]]
        return row

    def _piece(self, seconds: float, number: int, count: int) -> Drive:
        """A piece of the drive, another one in each round, with ground truth in it."""
        frames = self.drive.frames
        length = min(len(frames), max(2, round(seconds * self.drive.rate)))
        begin = round((len(frames) - length) * (number + 1) / (count + 1))
        return dataclasses.replace(self.drive, frames=frames[begin : begin + length])

    def finals(self, finalists: Sequence[Candidate]) -> None:
        """Play the whole drive with candidates and what they are measured ``against``, in turns."""
        others = [Candidate(self.against, False)] if self.against else []
        candidates = [*finalists, *(other for other in others if other not in finalists)]
        self.found.candidates |= {candidate.key: candidate for candidate in candidates}
        whole = self.drive
        if self.plan.final_s < self.drive.duration:
            frames = max(2, round(self.plan.final_s * self.drive.rate))
            whole = dataclasses.replace(self.drive, frames=self.drive.frames[:frames])
        if len(whole.frames) < len(self.drive.frames):
            self.found.notes.append(
                f"the finals played the first {whole.duration:.0f} s of {self.drive.duration:.0f} s"
            )
        played: dict[Candidate, list[dict[str, Any]]] = {candidate: [] for candidate in candidates}
        took = 0.0
        for repetition, order in enumerate(turns(len(candidates), self.plan.repetitions, _SEED)):
            if repetition >= _LEAST_REPETITIONS and self._elapsed() + took > self.plan.seconds:
                self.found.notes.append(f"time was left for {repetition} processes of each finalist")
                break
            since = time.monotonic()
            for place in order:
                candidate = candidates[place]
                title = f"finals {repetition + 1}/{self.plan.repetitions}: {candidate.key}"
                row = self._trial(
                    title,
                    f"final {repetition} {_span(whole)} {candidate.key}",
                    candidate.setting,
                    whole,
                    candidate.propagate,
                )
                # In step with the others: a pair of processes is one look at their difference.
                played[candidate].append(row or {})
            took = time.monotonic() - since
            self._judge(played)

    def _judge(self, played: Mapping[Candidate, Sequence[Mapping[str, Any]]]) -> None:
        """Bring ``found.finals`` up to date, the winner first; what is asked ``against`` never wins."""
        times = {frame.stamp: frame.log_time / 1e9 for frame in self.drive.frames}
        whole = {candidate: runs for candidate, runs in played.items() if runs and all("scored" in run for run in runs)}
        rows = [final_row(candidate, runs) for candidate, runs in whole.items()]
        running = [i for i, candidate in enumerate(whole) if candidate.setting != self.against]
        if not running:
            return
        order = [running[i] for i in best([rows[i] for i in running], self.asked, len(running))]
        order += [i for i in range(len(rows)) if i not in order]
        keys = list(whole)
        winner = keys[order[0]]
        self.found.finals = [
            rows[i]
            | {
                "behind": None
                if keys[i] is winner
                else behind((winner, whole[winner]), (keys[i], whole[keys[i]]), times)
            }
            for i in order
        ]

    def _candidate(self, row: Mapping[str, Any]) -> Candidate:
        return self.found.candidates[row["candidate"]]


def _span(drive: Drive) -> str:
    """Which frames are played: the key of what was measured with them."""
    return f"{drive.frames[0].stamp} to {drive.frames[-1].stamp}"
