"""What several tabs show in the same way."""

import html
import json
import threading
from collections.abc import Callable

import streamlit as st

from seg_node.compare.page import table_rows
from seg_node.core.report.charts import Figure
from seg_node.core.report.tables import Table
from seg_node.web.dashboard.pictures import image_html

# Matplotlib's settings belong to the process, and every visitor has a thread.
_drawing = threading.Lock()


def drawn(draw: Callable[..., Figure], *of: object) -> Figure:
    """The figure that a function draws of what JSON can hold.

    The page is made anew after every click, and drawing takes longer than all the rest: a figure is kept.
    """
    return _kept(draw.__qualname__, json.dumps(of), draw, of)


@st.cache_resource(show_spinner=False, max_entries=64)
def _kept(name: str, content: str, _draw: Callable[..., Figure], _of: tuple) -> Figure:
    return drawn_alone(lambda: [_draw(*_of)])[0]


def drawn_alone(draw: Callable[[], list[Figure]]) -> list[Figure]:
    """The figures that a function draws, and their SVG, while no other thread draws."""
    with _drawing:
        figures = draw()
        for figure in figures:
            _ = figure.svg
        return figures


def show_table(title: str, table: Table) -> None:
    """A table as text that screen readers can walk through, numbers to the right."""
    header, rows = table
    # A wide table scrolls by itself: something in it has to take the keyboard, that its arrows reach it.
    first = f'<span tabindex="0">{html.escape(header[0] or title)}</span>'
    lines = ["| " + " | ".join([first, *header[1:]]) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    st.markdown(f"**{title}**\n\n" + "\n".join(lines), unsafe_allow_html=True)


def show_stacked_table(title: str, table: Table) -> None:
    """The same; on a telephone the cells of a row stand below each other, each behind its column's name."""
    st.markdown(f"**{title}**\n\n<table class=stacked tabindex=0>{table_rows(table)}</table>", unsafe_allow_html=True)


def show_figure(figure: Figure) -> None:
    """A figure, its caption, and the same in numbers for those who do not see it."""
    alt = f"{figure.caption} {figure.numbers}"
    st.html(image_html(figure.svg.encode(), "image/svg+xml", figure.caption, alt))
    with st.expander("in numbers"):
        st.text(figure.numbers)
