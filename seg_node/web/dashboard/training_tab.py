"""Training runs, studies and what the manifests say of the models."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.report.charts import study_dots
from seg_node.core.report.tables import study as study_table
from seg_node.web.dashboard import charts, tables
from seg_node.web.dashboard.results import Results
from seg_node.web.dashboard.widgets import drawn, show_figure, show_table

_MOST_RUNS = 7
"""Number of runs in one figure, whose colours are told apart."""


def show(results: Results, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the tab.

    Args:
        results: what was found.
        models: see ``Masker.models``.
    """
    st.subheader("Categories")
    _manifests(models)
    left, right = st.columns(2)
    with left:
        st.subheader("Runs")
        _runs(results)
    with right:
        st.subheader("Studies")
        study = _study(results)
    if study:
        # Too many columns for half of the page.
        for data in study["summary"]:
            show_table(f"{study['question']}: on {data}, IoU in percent", study_table(study, data))


def _manifests(models: Mapping[str, Mapping[str, Any]]) -> None:
    known = list(dict.fromkeys(data for model in models.values() for data in model["metrics"]))
    if not known:
        st.info("No manifest reports scores; `python -m seg_training export RUN BUNDLE --data ROOT` writes them down.")
        return
    data = st.selectbox("Scored on", known)
    reported = {name: model["metrics"][data] for name, model in models.items() if data in model["metrics"]}
    eight = {name: models[name] for name, figures in reported.items() if "miou_7" in figures}
    for name in reported.keys() - eight.keys():
        show_table(f"{name} has categories of its own: {data}, IoU in percent", tables.own_quality(reported[name]))
    if not eight:
        return
    left, right = st.columns(2)
    with left:
        show_figure(drawn(charts.category_bars, {name: reported[name]["iou"] for name in eight}, f"IoU on {data}"))
    with right:
        header, rows = tables.quality(eight, data)
        # One row for each category: a table with a column for each would be too wide.
        turned = [[name, *(row[i] for row in rows)] for i, name in enumerate(header)][1:]
        show_table("As the manifests say, IoU in percent", (["", *(row[0] for row in rows)], turned))
        for row in rows:
            data = models[row[0]]["training_data"]
            st.caption(
                f"{row[0]}: trained on {data if isinstance(data, str) else '; '.join(data or ['unknown data'])}."
            )


def _runs(results: Results) -> None:
    if not results.runs:
        st.info("No training run found; `python -m seg_training train CONFIG` writes one, --results names its folder.")
        return
    # Those of the default model first, so that it has the same colour as in the other figures.
    names = sorted(results.runs, key=lambda name: DEFAULT_MODEL not in name)
    chosen = st.multiselect("Shown", names, names[:4], max_selections=_MOST_RUNS)
    if chosen:
        show_figure(drawn(charts.training_curves, {name: results.runs[name] for name in chosen}))


def _study(results: Results) -> Mapping[str, Any] | None:
    """The one that is chosen, None where there is none."""
    if not results.studies:
        st.info("No study found; `python -m seg_training study loss` or `augmentation` writes one.")
        return None
    found = results.studies[st.selectbox("Study", list(results.studies))]
    st.markdown(f"{found['question']}, {len(found['seeds'])} seeds, on {found['machine']}.")
    show_figure(drawn(study_dots, found))
    return found
