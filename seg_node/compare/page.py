"""A comparison as one self-contained web page with its figures and pictures."""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Iterable
from string import Template
from typing import TYPE_CHECKING

from seg_node.compare import tables, text
from seg_node.compare.comparison import Comparison, Picture
from seg_node.core.report.tables import Table
from seg_node.core.taxonomy import EIGHT, Taxonomy

if TYPE_CHECKING:
    from seg_node.core.report.charts import Figure


def to_html(comparison: Comparison) -> str:
    """The page; it needs nothing but a browser."""
    # Drawing needs matplotlib, the console report does not.
    from seg_node.compare.plots import figures
    from seg_node.core.report.charts import COLOURS

    names = [model.name for model in comparison.models]
    figure_parts = [html_figure(figure) for figure in figures(comparison)]
    keys = " and ".join(
        f'<b style="border-color:{colour}">{html.escape(name)}</b>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    body = [
        f"<h1>Which backbone should drive?</h1><p class=verdict>{html.escape(comparison.decision.sentence)}</p>",
        f"<p class=models>{keys} on {html.escape(text.drive(comparison))},"
        f" on {html.escape(text.machine(comparison))}.</p>",
        *(f"<p class=fault>{html.escape(fault)}</p>" for fault in (*comparison.faults, *text.caution(comparison))),
        "<h2>The questions</h2>",
        html_table(tables.verdicts(comparison), stacked=True),
        html_table(pairs, stacked=True) if (pairs := tables.pairs(comparison)) else "",
        "<ul>"
        + "".join(
            f"<li><b>{html.escape(text.heading(comparison, v))}.</b> {html.escape(v.reason + text.paired(v))}</li>"
            for v in comparison.verdicts
        )
        + "</ul>",
        "<h2>What was measured</h2>",
        f"<div class=figures>{''.join(figure_parts)}</div>",
    ]
    if comparison.now:
        shown = [table for table in (tables.now(comparison), tables.now_by_age(comparison)) if table]
        body += [
            "<h2>The mask of now</h2>",
            *(f"<p>{html.escape(sentence)}</p>" for sentence in text.now(comparison)),
            *map(html_table, shown),
            f"<p>{html.escape(text.now_method(comparison))}</p>" if shown else "",
        ]
    if comparison.pictures:
        body += ["<h2>Worst frames</h2>", *_legends(comparison), *map(_picture, comparison.pictures)]
    body += [
        "<h2>Each rate</h2>",
        html_table(tables.rates(comparison)),
        *(f"<p>{html.escape(note)}</p>" for note in text.notes(comparison)),
        f"<h2>Method</h2><p>{html.escape(text.method(comparison))}</p>",
        "<h2>Set-up</h2>",
        html_table(tables.setup(comparison)),
    ]
    title = html.escape(f"{' or '.join(names)}: a comparison")
    return filled("page.html", title, body)


def filled(skeleton: str, title: str, body: Iterable[str]) -> str:
    """A page that needs nothing but a browser.

    Args:
        skeleton: name of a file beside this module.
        title: HTML.
        body: HTML, parts of it.
    """
    folder = importlib.resources.files(__package__)
    parts = {"style": "style.css", "script": "wide_tables.js"}
    contents = {name: (folder / file).read_text().rstrip() for name, file in parts.items()}
    return Template((folder / skeleton).read_text()).substitute(title=title, body="\n".join(body), **contents)


def _picture(picture: Picture) -> str:
    panels = "".join(
        f'<div><img alt="{html.escape(title)}, frame {picture.frame}" src="data:image/jpeg;base64,{data}">'
        f"<span>{html.escape(title)}</span></div>"
        for title, data in picture.panels.items()
    )
    caption = f"Frame {picture.frame}, {picture.time_s:.1f} s: {picture.text}."
    return (
        f"<figure class=wide><div class=panels>{panels}</div><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _legends(comparison: Comparison) -> Iterable[str]:
    """The categories of the ground truth, the eight where a model has them, and those of the other models."""
    others = {model.name: model.labels for model in comparison.models if model.labels}
    if comparison.drive.truth and comparison.categories:
        yield f"<p>ground truth:</p>{legend(comparison.taxonomy)}"
    if comparison.drive.truth and not comparison.categories or len(others) < len(comparison.models):
        yield legend()
    for name, labels in others.items():
        yield f"<p>{html.escape(name)}:</p>{legend(Taxonomy.of_labels(labels))}"


def legend(taxonomy: Taxonomy = EIGHT) -> str:
    """Colour and name of each category."""
    entries = "".join(
        f'<span class=key><i style="background:rgb({r},{g},{b})"></i>{html.escape(name)}</span>'
        for name, (r, g, b) in zip(taxonomy.names, taxonomy.palette, strict=True)
    )
    return f"<p>{entries}</p>"


def html_figure(figure: Figure) -> str:
    """A figure with its caption, and with its numbers for those who do not see it."""
    words = f"{figure.caption} {figure.numbers}"
    drawing = figure.svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1)
    return (
        f"<figure>{drawing}<figcaption>{html.escape(figure.caption)}"
        f"<details><summary>in numbers</summary>{html.escape(figure.numbers)}</details></figcaption></figure>"
    )


def html_table(table: Table, stacked: bool = False) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        table: header and rows; a header without a word is left out.
        stacked: on a telephone, write the cells of a row below each other instead, each behind its column's name.
    """
    header, rows = table
    kind = " class=stacked" if stacked else "" if any(header) else " class=facts"
    return f"<div class=scroll tabindex=0><table{kind}>{table_rows(table)}</table></div>"


def table_rows(table: Table) -> str:
    """What stands within a table in HTML; each cell names its column in ``data-of``, for a style that stacks them."""
    header, rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = [
        "".join(
            f'<td data-of="{html.escape(name)}">{html.escape(cell)}</td>'
            for name, cell in zip(header, row, strict=True)
        )
        for row in rows
    ]
    return "".join(f"<tr>{line}</tr>" for line in ([head] if any(header) else []) + lines)
