"""Pieces of single pages: what the mask of now gives and costs, what plain rclpy costs, whether tuning finds all."""

from typing import Any

from seg_node.core.report.tables import bounded, interval, number
from seg_node.core.report.tables import markdown as table
from seg_node.tune.report import drive, finals

_SCORED = ("miou_7", "human", "vehicle", "object")


def mask_now_tables(measured: dict[str, Any]) -> str:
    """Scores and times as Markdown, means over the runs of each drive.

    Args:
        measured: what ``benchmarks/propagation.py`` wrote.
    """
    scores, times = [], []
    for row in measured["rows"]:
        title = f"{row['drive']}, {row['rate_hz']:.0f} Hz"
        for name in _SCORED:
            figure = row["figures"][name]
            gain = figure["gain"]
            gained = "" if gain["mean"] is None else interval(gain["mean"], gain["low"], gain["high"])
            cells = [number(figure[kind]) for kind in ("masked", "mask", "mask_now")]
            scores.append([title if name == _SCORED[0] else "", name, *cells, gained])
        covered, dropped, now = row["covered"], dict(row["dropped"]), row["camera_to_mask_now"]
        without = [dropped.pop("no_keyframe"), sum(dropped.values())]
        cells = [number(None if covered is None else 100 * covered), " / ".join(map(number, without))]
        cells += [number(now["p50"]), number(now["p99"])]
        for of, digits in (("masks_per_second", 1), ("inference_ms", 0), ("cpu_cores", 2)):
            cells += [number(row[of][kind], digits) for kind in ("alone", "listened")]
        times.append([title, *cells])
    gains = f"gain of mask_now, points, {100 * measured['level']:.0f} % interval"
    frame = ["frames with a mask of now, %", "no_keyframe / other reasons, frames", "camera to it, p50, ms", "p99, ms"]
    both = [f"{name}, {kind}" for name in ("masks/s", "inference, ms", "cores") for kind in ("alone", "listened to")]
    return (
        f"`{measured['model']}`, {measured['pairs']} pairs of processes for each drive. Streaming accuracy in percent"
        " ([how it is scored](replay.md)): that of `~/mask` in the runs without a listener, that of `~/mask_now` with a"
        " forecast of one period. *Masked*: the masks of `~/mask` against their own frames.\n\n"
        f"{table((['drive', 'IoU', 'masked', 'mask', 'mask_now', gains], scores))}\n\n"
        f"{table((['drive', *frame, *both], times))}"
    )


def plain_path_table(measured: dict[str, Any]) -> str:
    """What plain rclpy costs, as Markdown.

    Args:
        measured: what ``benchmarks/plain_path.py`` wrote.
    """
    rows = [
        [name, number(row["fast"], 2), number(row["plain"], 2), number(row["plain / fast"], 3)]
        for name, row in measured["figures"].items()
    ]
    return (
        f"The shipped drive at a rate of `{measured['rate']}`, {measured['pairs']} pairs of processes; medians:\n\n"
        f"{table((['', 'rcl functions', 'plain rclpy', 'plain / rcl'], rows))}"
    )


def node_checkouts_table(measured: dict[str, Any]) -> str:
    """The nodes of two commits as Markdown.

    Args:
        measured: what ``benchmarks/node_checkouts.py`` wrote.
    """
    rows = [
        [name, *(number(row[side], 2) for side in ("before", "after"))]
        + [bounded(row["after / before"], row["low"], row["high"], 3)]
        for name, row in measured["figures"].items()
    ]
    before, after = (measured["commits"][side][:9] for side in ("before", "after"))
    return (
        f"`{measured['model']}` on the shipped drive, and idle without a camera; {measured['pairs']} pairs of"
        f" processes. Medians, and quotients with their 95 % intervals:\n\n"
        f"{table((['', f'commit {before}', f'commit {after}', 'after / before'], rows))}"
    )


def tune_exhaustive_table(measured: dict[str, Any]) -> str:
    """Whether a tuning threw anything better away, as Markdown.

    Args:
        measured: what ``benchmarks/tune_exhaustive.py`` wrote.
    """
    return (
        f"{drive(measured)}. {len(measured['trials'])} candidates on OpenVINO played it once each; the best of them are"
        f" in the finals. The tuning's winner, `{measured['winner']}`, is"
        f" {'within the interval of' if measured['kept'] else '**worse than**'} the best of all:\n\n"
        f"{table(finals(measured))}"
    )


def profiles_table(profiles: dict[str, dict[str, Any]]) -> str:
    """What the shipped profiles gain on their machines, as Markdown.

    Args:
        profiles: values of each profile, of a tuning that had something to be held against, by the name of its file.
    """
    header = ["profile", "measured", "instructions", "winner", "miou_7", "against `~/mask` of", "its miou_7", "points"]
    rows = []
    for name, values in profiles.items():
        winner, against = values["winner"], values["asked"]["against"]
        held = next(row for row in values["runners_up"] if row["candidate"] == f"{against} auto auto own size, ~/mask")
        about = [name, values["created"][:10], "/".join(values["machine"]["instructions"]), winner["candidate"]]
        scores = [bounded(of["score"], of["low"], of["high"]) for of in (winner, held)]
        gain = interval(*(held["behind"][name] for name in ("points", "low", "high")))
        rows.append([*about, scores[0], against, scores[1], gain])
    machines = {name: values["machine"] for name, values in profiles.items()}
    of = "; ".join(f"`{name}` is of {machine['cpu']}, {machine['cores']} cores" for name, machine in machines.items())
    return f"{table((header, rows), code=(0,))}\n\n*Manifests: {of}.*"
