"""What a tuning found, as the dictionary that becomes JSON, and as the values of a profile."""

from collections.abc import Mapping
from typing import Any

from seg_node.core.bundle import GRAPH, Bundle
from seg_node.core.profile.fit import fingerprint
from seg_node.core.report.tables import number, signed
from seg_node.tune.candidates import Candidate
from seg_node.tune.choice import Asked
from seg_node.tune.final import LEVEL
from seg_node.tune.tuning import Found

SCHEMA = 1

SLACK = 1.25
"""Factor by which the band of the drift is wider than what was measured, at either end."""
_RUNNERS_UP = 5


def make_result(found: Found, asked: Asked, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is known.

    Args:
        found: by the tuning, perhaps not to its end.
        asked: of the winner.
        about: ``created``, ``machine``, ``versions``, ``drive``, ``asked``, ``forecast_ms``, ``duration_s``.

    Returns:
        These, and ``screened``, ``trials``, ``finals``, ``notes``; ``winner``, the key of a candidate, or None before
        the finals; ``meets``, whether it meets what is asked; ``why``, a sentence.
    """
    finals = found.finals
    first = finals[0] if finals else None
    return {
        "schema": SCHEMA,
        **about,
        "screened": found.screened,
        "trials": found.trials,
        "finals": finals,
        "notes": list(dict.fromkeys(found.notes)),
        "winner": first["candidate"] if first else None,
        "meets": bool(first) and asked.shortfall(first) == 0,
        "why": why(finals, asked, about["drive"]["truth"]),
    }


def why(finals: list[Mapping[str, Any]], asked: Asked, truth: str) -> str:
    """Why the first of the finals won, or that nothing meets what is asked, in words."""
    if not finals:
        return "no winner: the finals were not reached"
    first = finals[0]
    score = f"a streaming miou_7 of {first['score']:.1f}{_interval(first)}"
    figures = f"{score} on inferred masks of which 95 % arrive within {number(first['age_ms'], 0)} ms"
    against = f"scores are against {truth}"
    if asked.shortfall(first):
        return f"nothing that was tried gives {asked.text()}; {first['candidate']} comes nearest: {figures}; {against}"
    others = [row for row in finals[1:] if row["behind"]]
    text = f"{first['candidate']}: {figures}; asked was {asked.text()}, and {against}"
    if not others:
        return text
    gap = others[0]["behind"]
    decided = ", which chance may have decided" if gap["low"] <= 0 <= gap["points"] else ""
    within = f"{LEVEL:.0%} interval {signed(gap['low'])} to {signed(gap['high'])}"
    return f"{text}; {signed(gap['points'])} points to {others[0]['candidate']} ({within}){decided}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f" ({LEVEL:.0%} interval {row['low']:.1f} to {row['high']:.1f})"


def profile_values(result: Mapping[str, Any], winner: Candidate, bundles: Mapping[str, Bundle]) -> dict[str, Any]:
    """Values for ``core.profile.file.write_profile``.

    Args:
        result: of ``make_result``, with finals.
        winner: the candidate that won.
        bundles: all that were tried, by the name or path that the node takes.
    """
    first, *others = result["finals"]
    setting, inference = winner.setting, first["inference_ms"]
    rest = sorted(result["trials"], key=lambda row: -row["score"])
    finalists = {row["candidate"] for row in result["finals"]}
    return {
        "created": result["created"],
        "settings": {
            "model": setting.model,
            "engine": setting.engine,
            "precision": setting.precision,
            "input_size": list(setting.input_size),
            "threads": setting.threads,
            "propagate": winner.propagate,
            "forecast_ms": result["forecast_ms"],
        },
        "topic": winner.topic,
        "why": result["why"],
        "inference_ms": {
            "p50": inference["p50"],
            "low": round(inference["p05"] / SLACK, 2),
            "high": round(inference["p95"] * SLACK, 2),
        },
        "asked": dict(result["asked"]),
        "winner": _row(first),
        "runners_up": [_row(row) for row in others]
        + [_row(row) for row in rest if row["candidate"] not in finalists][:_RUNNERS_UP],
        "drive": dict(result["drive"]),
        "machine": fingerprint(),
        "bundles": {
            model: {"name": bundle.name, "sha256": bundle.manifest.files[GRAPH]} for model, bundle in bundles.items()
        },
    }


_FIGURES = (
    "candidate",
    "round",
    "score",
    "low",
    "high",
    "behind",
    "age_ms",
    "use_ms",
    "masks_per_s",
    "cpu_cores",
    "rss_mb",
)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _FIGURES if row.get(name) is not None}
