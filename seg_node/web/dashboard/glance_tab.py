"""The whole at a glance: a drive as a decision module has it, which model, which settings, and how sure it is.

Figures come from result files alone; where there is none, the command that makes one stands in its place.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from seg_node.core.report.tables import number, origin
from seg_node.core.share import shared_path
from seg_node.web.dashboard.results import Results

if TYPE_CHECKING:
    from seg_node.compare.comparison import Comparison

_WHAT = (
    "A camera's frames go in, masks of road-scene categories come out. An inference takes longer than a frame of the"
    " camera, so that the newest mask is of an earlier frame when a decision module uses it: `~/mask` is what was"
    " inferred, `~/mask_now` is the same carried along the optical flow to the present."
)
_REPLAY = (
    "`make demo` plays the shipped drive through the real node and writes one; `seg_node replay --forecast 33` records"
    " the mask of now as well"
)
_AS_USED = "as_used.webm"


def show(results: Results) -> None:
    """Draw the tab."""
    st.markdown(_WHAT)
    st.subheader("A drive, as the decision module has it")
    _drive(results)
    left, right = st.columns(2)
    with left:
        st.subheader("Which model")
        _models(results)
    with right:
        st.subheader("Which settings")
        _settings(results)
    st.subheader("How sure it is")
    _calibration(results)


def captions(ages_at_use: Mapping[str, Sequence[float | None]], rate_hz: float) -> str:
    """Ages of what ``as_used.webm`` shows, in words for each second, as WebVTT.

    Args:
        ages_at_use: see ``seg_node.rig.streaming.ages_at_use``.
        rate_hz: of the drive; its first frame that counts is at the beginning of the video.
    """
    cues = ["WEBVTT"]
    for second, rows in _by_second(ages_at_use, rate_hz):
        words = ", ".join(f"{topic} {row}" for topic, row in rows.items())
        cues.append(f"{_time(second)} --> {_time(second + 1)}\n{words}")
    return "\n\n".join(cues) + "\n"


def _by_second(
    ages_at_use: Mapping[str, Sequence[float | None]], rate_hz: float
) -> Iterator[tuple[int, dict[str, str]]]:
    """Ages of each second of the video, in words by topic."""
    frames = ages_at_use["frame"]
    topics = [(key.removesuffix("_ms"), key) for key in ("mask_ms", "mask_now_ms") if key in ages_at_use]
    seconds = [int((frame - frames[0]) / rate_hz) for frame in frames]
    for second in range(max(seconds, default=-1) + 1):
        rows = {}
        for topic, key in topics:
            of_second = zip(seconds, ages_at_use[key], strict=True)
            known = [age for at, age in of_second if at == second and age is not None]
            rows[topic] = f"{min(known):.0f} to {max(known):.0f} ms" if known else "none yet"
        yield second, rows


def _time(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000"


def _drive(results: Results) -> None:
    if not results.replays:
        st.info(f"No replay found; {_REPLAY}, and --results names its folder.")
        return
    names = list(results.replays)
    name = names[0] if len(names) == 1 else st.selectbox("Replay", names, key="replay")
    path = results.replays[name]
    try:
        replay = json.loads(path.read_text())
        ages, rate = replay.get("ages_at_use"), float(replay["setup"]["rate_hz"])
        words, faults, machine = _in_words(replay), replay["faults"], origin(replay["machine"])
        vtt = captions(ages, rate) if ages and rate > 0 else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        st.error(f"{path} cannot be shown ({type(error).__name__}: {error}); replay that drive again.")
        return
    left, right = st.columns([3, 2])
    with left:
        video = path.with_name(_AS_USED)
        if video.is_file():
            st.video(str(video), format="video/webm", subtitles={"Ages": io.BytesIO(vtt.encode())} if vtt else None)
            st.caption("Each frame with what was at hand when it came, colours as in the legend below it.")
            st.caption(f"{machine}.")
            if replay.get("now") is None:
                st.caption(f"Nobody listened to the mask of now: {_REPLAY}.")
        else:
            st.info(f"{path.parent} has no {_AS_USED}; {_REPLAY}.")
    with right:
        for fault in faults:
            st.error(fault)
        # Matplotlib takes a second to import: the video does not wait for it.
        from seg_node.web.dashboard import charts
        from seg_node.web.dashboard.widgets import drawn, show_figure, show_table

        show_table("This replay", words)
        if ages and rate > 0:
            show_figure(drawn(charts.ages, ages, rate))


def _in_words(replay: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What a replay measured, as a table of two columns."""
    setup, streaming = replay["setup"], replay["streaming"] or {}
    latency, accuracy = replay["camera_to_mask"], replay["accuracy"] or {}
    rows = [
        ["drive", f"{Path(setup['drive']).name}, {number(setup['rate_hz'])} Hz"],
        ["model", f"{setup['model']} on {setup['engine']}"],
        ["frames sent", str(replay["sent"])],
        ["masks inferred", f"{replay['masked']}, {number(replay['masks_per_second'])} per second"],
        ["camera to mask, median", f"{number(latency and latency['p50'], 0)} ms"],
        ["age at use, mean", f"{number(replay['age_mean'], 0)} ms"],
    ]
    headline = next((name for name in ("miou_7", "miou") if name in accuracy), None)
    if headline:
        rows.append([f"{headline} of the frames inferred", f"{number(accuracy[headline])} %"])
        for topic in ("mask", "mask_now"):
            if topic in streaming:
                rows.append([f"{headline} at use, {topic}", f"{number(streaming[topic][headline])} %"])
    return ["", "measured"], rows


def _models(results: Results) -> None:
    from seg_node.compare import text
    from seg_node.compare.comparison import ComparisonError
    from seg_node.core.statistics import mean_known
    from seg_node.web.dashboard import charts
    from seg_node.web.dashboard.widgets import drawn, show_figure

    for path in results.comparisons.values():
        try:
            comparison = _comparison(path, path.stat().st_mtime_ns)
        except ComparisonError as error:
            st.error(str(error))
            continue
        if not comparison.streaming:
            continue
        rows, headline = [], comparison.taxonomy.headline
        for index, model in enumerate(comparison.models):
            gain = next((gain for gain in comparison.gains if (gain.model, gain.name) == (index, headline)), None)
            of = {
                kind: mean_known(scored.headline for scored in found if scored.model == index)
                for kind, found in (("mask", comparison.streaming), ("offline", comparison.offline))
            }
            rows.append({"name": model.name, **of, "mask_now": gain.mask_now if gain else None})
        show_figure(drawn(charts.as_used, rows, headline))
        st.caption(f"{text.drive(comparison)}; {text.machine(comparison)}.")
        if any(row["mask_now"] is None for row in rows):
            measured = ", ".join(row["name"] for row in rows if row["mask_now"] is not None) or "no model"
            st.caption(
                f"~/mask_now was measured of {measured}; `seg_node compare --now all` measures it of every model."
            )
        st.caption("Each question with its interval: tab Replay comparison.")
        return
    st.info("No comparison with ground truth found; `make compare` writes one, and --results names its folder.")


@st.cache_resource(show_spinner=False, max_entries=8)
def _comparison(path: Path, changed: int) -> "Comparison":
    """A comparison, read again when its file has changed."""
    from seg_node.compare.comparison import load_comparison

    return load_comparison(path)


def _settings(results: Results) -> None:
    from seg_node.core.profile.file import ProfileError, read_profile
    from seg_node.tune import report
    from seg_node.web.dashboard.widgets import drawn, show_figure

    if results.tunings:
        path = next(iter(results.tunings.values()))
        try:
            result = json.loads(path.read_text())
            figure, why, of = drawn(report.pareto, result), result["why"], report.drive(result)
        except (OSError, ValueError, KeyError, TypeError) as error:
            st.error(f"{path} cannot be shown ({type(error).__name__}: {error}); `make tune` writes it anew.")
            return
        show_figure(figure)
        st.caption(f"{why}. {of}; {origin(result['machine'])}.")
        return
    shipped = shared_path("config/profiles")
    profiles = sorted(shipped.glob("*.yaml")) if shipped else []
    if not profiles:
        st.info("No tuning found; `make tune` finds what is best on this machine in six minutes.")
        return
    st.info("This machine has not been tuned; `make tune` does it in six minutes. What follows is of another one.")
    try:
        values = read_profile(profiles[0]).values
    except ProfileError as error:
        st.error(str(error))
        return
    show_figure(drawn(report.pareto, report.of_profile(values)))
    machine = values["machine"]
    st.caption(f"{values['why']}. {profiles[0].name}: {machine['cpu']}, {machine['cores']} cores.")


def _calibration(results: Results) -> None:
    from seg_node.web.dashboard import charts, tables
    from seg_node.web.dashboard.widgets import drawn, show_figure, show_table

    if not results.calibrations:
        st.info("No calibration found; `python benchmarks/confidence_now.py --out FILE` measures it.")
        return
    name, found = next(iter(results.calibrations.items()))
    try:
        shown = {row["drive"]: tables.calibration(row) for row in found["rows"]}
        figures = [
            drawn(charts.reliability, row["drive"], of)
            for row in found["rows"]
            if (of := {made_of: row[made_of] for made_of in tables.CONFIDENCES if "bins" in row[made_of]})
        ]
        where = f"{found['model']}, an inference of {found['inference']:g} ms, learnt on {found['learnt_on']}"
        of_machine = origin(found["machine"])
    except (KeyError, TypeError, ValueError) as error:
        st.error(f"{name} cannot be shown ({type(error).__name__}: {error}); benchmarks/confidence_now.py writes it.")
        return
    left, right = st.columns(2)
    with left:
        for figure in figures:
            show_figure(figure)
    with right if figures else left:
        for drive, table in shown.items():
            show_table(f"Confidence of the mask of now on {drive}", table)
        st.caption(
            "ECE: how far confidence and share of right pixels are apart, on average. AUROC: chance that a right pixel"
            f" has the higher confidence of a right and a wrong one. {where}; {of_machine}."
        )
