"""What several tabs show in the same way."""

import threading
from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from seg_node.compare.page import table_rows
from seg_node.core.report.charts import Figure
from seg_node.core.report.tables import Table
from seg_node.web.dashboard.pictures import image_html

T = TypeVar("T")

# Matplotlib's settings belong to the process, and every visitor has a thread.
_drawing = threading.Lock()


def drawn(draw: Callable[..., T], *of: object) -> T:
    """The result of a function that draws, while no other thread does."""
    with _drawing:
        return draw(*of)


def show_table(title: str, table: Table) -> None:
    """A table as text that screen readers can walk through, numbers to the right."""
    header, rows = table
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    st.markdown(f"**{title}**\n\n" + "\n".join(lines))


def show_stacked_table(title: str, table: Table) -> None:
    """The same; on a telephone the cells of a row stand below each other, each behind its column's name."""
    st.markdown(f"**{title}**\n\n<table class=stacked>{table_rows(table)}</table>", unsafe_allow_html=True)


def show_figure(figure: Figure) -> None:
    """A figure, its caption, and the same in numbers for those who do not see it."""
    alt = f"{figure.caption} {figure.numbers}"
    st.html(image_html(figure.svg.encode(), "image/svg+xml", figure.caption, alt))
    with st.expander("in numbers"):
        st.text(figure.numbers)
