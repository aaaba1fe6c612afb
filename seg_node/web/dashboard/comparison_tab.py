"""A replay comparison: the verdicts, latency, streaming accuracy, and the frames worth looking at."""

import base64
import datetime
import html
from pathlib import Path

import streamlit as st

from seg_node.compare import tables, text
from seg_node.compare.comparison import Comparison, ComparisonError, load_comparison
from seg_node.compare.plots import figures
from seg_node.compare.verdict import judged
from seg_node.core.report.charts import Figure
from seg_node.web.dashboard.pictures import image_html
from seg_node.web.dashboard.results import Results
from seg_node.web.dashboard.widgets import drawn_alone, show_figure, show_stacked_table, show_table


def show(results: Results) -> None:
    """Draw the tab."""
    if not results.comparisons:
        st.info("No comparison found; `make compare` writes one, and --results names its folder.")
        return
    name = st.selectbox("Comparison", list(results.comparisons))
    try:
        path = results.comparisons[name]
        comparison, drawings = _read(path, path.stat().st_mtime_ns)
    except ComparisonError as error:
        st.error(str(error))
        return
    if comparison.decision:
        st.subheader(comparison.decision.sentence)
    st.caption(f"{text.drive(comparison)}; {text.machine(comparison)}; {_when(comparison.created)}")
    for fault in comparison.faults:
        st.error(fault)
    show_stacked_table("The questions", tables.verdicts(comparison))
    if comparison.now:
        # As HTML: names of topics begin with what Markdown takes for a line through a word.
        st.html("".join(f"<p>{html.escape(sentence)}</p>" for sentence in text.now(comparison)))
        for title, table in (("The mask of now", tables.now), ("By age", tables.now_by_age)):
            if shown := table(comparison):
                show_table(title, shown)
        st.html(f"<p><small>{html.escape(text.now_method(comparison))}</small></p>")
    columns = st.columns(2)
    for i, figure in enumerate(drawings):
        with columns[i % 2]:
            show_figure(figure)
    for picture in comparison.pictures:
        st.markdown(f"**Frame {picture.frame}, {picture.time_s:.1f} s**: {picture.text}.")
        for column, (title, data) in zip(st.columns(len(picture.panels)), picture.panels.items(), strict=True):
            alt = f"{title}, frame {picture.frame}"
            column.html(image_html(base64.b64decode(data), "image/jpeg", title, alt))
    if comparison.runs:
        with st.expander("Each rate"):
            show_table("Frames of all repetitions", tables.rates(comparison))


@st.cache_resource(show_spinner=False, max_entries=8)
def _read(path: Path, changed: int) -> tuple[Comparison, list[Figure]]:
    """A comparison and its figures; read again when the file has changed."""
    comparison = judged(load_comparison(path))
    return comparison, drawn_alone(lambda: figures(comparison))


def _when(created: str) -> str:
    """An ISO time as people write it, in UTC."""
    time = datetime.datetime.fromisoformat(created)
    if time.tzinfo:
        time = time.astimezone(datetime.timezone.utc)
    return f"{time.day} {time:%B %Y, %H:%M}" + (" UTC" if time.tzinfo else "")
