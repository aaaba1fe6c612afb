"""Markdown to PDF through Typst: the small part of Markdown that the note and the slides use.

All text reaches Typst as string literals, so that nothing in it can be taken for markup.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import typst
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from matplotlib import get_data_path

from note import deck
from note.deck import HEIGHT_CM, WIDTH_CM, Slide, plain
from note.slide_charts import POINTS

_FIGURE_FONTS = Path(get_data_path(), "fonts", "ttf")
"""Of the fonts in which Matplotlib measured the figures' text, and which the slides use."""

_NOTE = """\
#set document(title: {title}, keywords: {keyword}, date: none)
#set page(paper: "a4", margin: (x: 2.1cm, y: 2cm), numbering: "1")
#set text(font: "Libertinus Serif", size: 10pt, lang: "en")
#set par(justify: true, leading: 0.6em, spacing: 0.9em)
#show heading: set block(above: 1.3em, below: 0.7em)
#show heading.where(level: 1): set text(size: 17pt)
#show heading.where(level: 2): set text(size: 12.5pt)
#show table: set par(justify: false)
#let table-size = 8pt
#show raw: set text(font: "DejaVu Sans Mono", size: 1.05em)
#show link: set text(fill: rgb("#0b5394"))
"""
_SLIDES = """\
#set document(title: {title}, keywords: {keyword}, date: none)
#set page(width: {width}cm, height: {height}cm, margin: (x: 1.3cm, top: 0.8cm, bottom: 1.2cm),
  footer-descent: 15%, footer: context align(right, text(size: {points}pt, fill: rgb("#777777"),
  counter(page).display())))
#set text(font: "DejaVu Sans", size: 18pt, lang: "en")
#set par(leading: 0.6em, spacing: 0.9em)
#set list(spacing: 0.9em)
#set enum(spacing: 0.9em)
#show heading: set text(size: 24pt, fill: rgb("#0b3d66"))
#show heading: set block(below: 0.7em)
#let table-size = {points}pt
#show raw: set text(font: "DejaVu Sans Mono", size: 1.05em)
#show link: set text(fill: rgb("#0b5394"))
"""
_WHOLE_ROWS = 15
"""Tables of no more rows stand on one page."""
_FITTED = """
#let fitted(words, cells, fills: false, points: table-size, ..options) = text(size: points, layout(size => context {
  let inset = 8pt
  let widest(contents) = calc.max(..contents.map(content => measure(content).width)) + inset
  let least = words.map(widest)
  let most = range(words.len()).map(column => widest(cells.map(row => row.at(column))))
  assert(least.sum() <= size.width, message: "a table is wider than its page, even with one word a line")
  let spare = size.width - least.sum()
  let wanted = most.sum() - least.sum()
  let share = if wanted > spare or fills { spare / wanted } else { 1 }
  let columns = range(words.len()).map(column => least.at(column) + share * (most.at(column) - least.at(column)))
  table(columns: columns, ..options)
}))
"""
"""A table whose columns are as wide as their longest word at least, which Typst's own automatic ones are not."""
_TABLE_STYLE = 'stroke: (x, y) => (bottom: if y == 0 {0.8pt} else {0.3pt + rgb("#bbbbbb")}), inset: (x: 4pt, y: 3.2pt)'

_LARGE_STYLE = _TABLE_STYLE.replace("3.2pt", "5pt")
_SMALL_LETTERS, _SMALL_ROWS, _LARGE_POINTS = 95, 9, 16
"""Tables of no more letters a line and of fewer rows are written larger where they have a slide to themselves."""


def typeset(markdown: str, folder: Path, slides: bool, keyword: str) -> bytes:
    """Make a PDF.

    Args:
        markdown: text; ``---`` between slides, see ``deck.slides``.
        folder: to which the paths of its images are relative.
        slides: lay it out for a screen, a page for each slide.
        keyword: written into the document's metadata.
    """
    made = typst.compile(_source(markdown, slides, keyword), root=folder, font_paths=[_FIGURE_FONTS])
    # Older Poppler calls this default value a wrong type. Blanks of equal length keep the offsets in the PDF right.
    mark = b"/Suspects false"
    return made.replace(mark, b" " * len(mark))


def page_count(markdown: str, folder: Path, slides: bool) -> int:
    """Pages that ``typeset`` makes."""
    pages = typst.compile(_source(markdown, slides, ""), root=folder, font_paths=[_FIGURE_FONTS], format="svg")
    return len(pages) if isinstance(pages, list) else 1


def _source(markdown: str, slides: bool, keyword: str) -> bytes:
    tree = SyntaxTreeNode(MarkdownIt().enable("table").parse(markdown))
    # Comments are for readers of the Markdown.
    blocks = [block for block in tree.children if block.type != "html_block"]
    title = next((plain(block) for block in blocks if block.type == "heading"), "")
    about = {"title": _literal(title), "keyword": _literal(keyword)}
    slide = {"width": WIDTH_CM, "height": HEIGHT_CM, "points": POINTS}
    head = (_SLIDES.format(**about, **slide) if slides else _NOTE.format(**about)) + _FITTED
    if slides:
        return (head + "\n#pagebreak()\n".join(map(_slide, deck.slides(markdown)))).encode()
    return (head + "\n\n".join(map(_with_next, blocks, [*blocks[1:], None]))).encode()


def _slide(slide: Slide) -> str:
    """Title and words, below them the picture or table as large as there is place, and the foot."""
    parts = [_block(slide.title)]
    alone = not slide.picture and slide.table is None
    if slide.words:
        words = "\n\n".join(map(_block, slide.words))
        parts.append(f"#v(1fr)\n#text(size: 20pt)[{words}]\n#v(2fr)" if alone else words)
    if slide.picture:
        shown = f'image({_literal(slide.picture)}, width: 100%, height: 100%, fit: "contain", '
        parts.append(f"#block(height: 1fr, width: 100%, {shown}alt: {_literal(slide.alternative)}))")
    elif slide.table is not None:
        parts.append(f"#v(1fr)\n{_table(slide.table, fills=True)}\n#v(1fr)")
    if slide.foot is not None:
        parts.append(f'#block(width: 94%, text(size: {POINTS}pt, fill: rgb("#555555"))[{_inline(slide.foot)}])')
    return "\n\n".join(parts)


def _with_next(block: SyntaxTreeNode, after: SyntaxTreeNode | None) -> str:
    """A block; one that announces the table behind it does not stay behind at the end of a page."""
    announces = after is not None and after.type == "table" and plain(block).endswith(":")
    return f"#block(sticky: true)[{_block(block)}]" if announces else _block(block)


def _block(node: SyntaxTreeNode) -> str:
    match node.type:
        case "heading":
            return f"#heading(level: {node.tag[1:]})[{_inline(node)}]"
        case "paragraph" if images := _images(node):
            return _figures(node, images)
        case "paragraph":
            return _inline(node)
        case "bullet_list" | "ordered_list":
            items = (", ".join(f"[{_blocks(item)}]" for item in node.children)) + ","
            return f"#{'list' if node.type == 'bullet_list' else 'enum'}({items})"
        case "blockquote":
            return f'#block(inset: (left: 1em), stroke: (left: 2pt + rgb("#0072b2")))[{_blocks(node)}]'
        case "fence" | "code_block":
            return f"#raw({_literal(node.content.rstrip())}, block: true)"
        case "table":
            return _table(node)
    raise ValueError(f"the typesetter knows no {node.type}")


def _blocks(node: SyntaxTreeNode) -> str:
    return "\n\n".join(map(_block, node.children))


def _images(node: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    return [child for child in node.children[0].children if child.type == "image"] if node.type == "paragraph" else []


def _figures(node: SyntaxTreeNode, images: list[SyntaxTreeNode]) -> str:
    """Pictures of a paragraph in a row, and its other words below, never on another page."""
    width = "100%" if len(images) > 1 else "9.3cm"
    cells = ", ".join(
        f"image({_literal(image.attrs['src'])}, width: 100%, alt: {_literal(plain(image))})" for image in images
    )
    words = "".join(_span(child) for child in node.children[0].children if child.type not in ("image", "softbreak"))
    grid = f"grid(columns: ({'1fr, ' * len(images)}), gutter: 0.6cm, {cells})"
    return (
        f"#block(breakable: false, width: 100%)[#align(center)[#block(width: {width})[#{grid}]"
        f"#text(size: 0.8em)[{words}]]]"
    )


def _table(node: SyntaxTreeNode, fills: bool = False) -> str:
    """A table; columns of figures are set to the right. One that fills its page is wide, and larger if it is small."""
    head, *body = (section.children for section in node.children)
    rows = [row.children for section in body for row in section]
    header = head[0].children
    numeric = [
        all(plain(row[i])[:1] in "+-−0123456789." for row in rows) and any(plain(row[i]) for row in rows)
        for i in range(len(header))
    ]
    align = ["right" if right else "left" for right in numeric]
    names = [f"[#strong[{_inline(cell, breaking=True)}]]" for cell in header]
    lines = [[f"[{_inline(cell, breaking=True)}]" for cell in row] for row in rows]
    words = [
        [f"strong({word})" for word in _words(header[i])] + [word for row in rows for word in _words(row[i])]
        for i in range(len(header))
    ]
    cells = ", ".join(cell for line in lines for cell in line)
    letters = sum(max(len(plain(row[i])) for row in [header, *rows]) for i in range(len(header)))
    small = fills and letters <= _SMALL_LETTERS and len(rows) < _SMALL_ROWS
    style = _LARGE_STYLE if small else _TABLE_STYLE
    size = f"fills: {str(fills).lower()}, points: {_LARGE_POINTS if small else 'table-size'}{'pt' * small}"
    table = (
        f"fitted({_array(map(_array, words))}, {_array(map(_array, [names, *lines]))}, {size}, align: {_array(align)},"
        f" {style}, table.header({', '.join(names)}), {cells})"
    )
    return f"#align(center, block(breakable: {str(len(rows) > _WHOLE_ROWS).lower()}, {table}))"


def _array(values: Iterable[str]) -> str:
    """An array of Typst; the comma behind the last value tells one of one value from a value in parentheses."""
    return f"({''.join(f'{value}, ' for value in values)})"


def _words(cell: SyntaxTreeNode) -> list[str]:
    """Parts of a cell between which its lines may break."""
    parts = [part for inline in cell.children for part in inline.walk() if part.type in ("text", "code_inline")]
    return [
        f"raw({_literal(word)})" if part.type == "code_inline" else f"[#{_literal(word)}]"
        for part in parts
        for word in (
            re.split("\u200b", _breakable(part.content)) if part.type == "code_inline" else part.content.split()
        )
    ] or ["[]"]


def _inline(node: SyntaxTreeNode, breaking: bool = False) -> str:
    return "".join(_span(child, breaking) for part in node.children for child in part.children)


def _span(node: SyntaxTreeNode, breaking: bool = False) -> str:
    inner = "".join(_span(child, breaking) for child in node.children)
    match node.type:
        case "text":
            return f"#{_literal(node.content)}"
        case "softbreak":
            return '#" "'
        case "code_inline":
            return f"#raw({_literal(_breakable(node.content) if breaking else node.content)})"
        case "strong":
            return f"#strong[{inner}]"
        case "em":
            return f"#emph[{inner}]"
        case "link":
            return f"#link({_literal(node.attrs['href'])})[{inner}]"
    raise ValueError(f"the typesetter knows no {node.type}")


def _breakable(code: str) -> str:
    """Code that may be broken after the marks that join its words, for the narrow columns of tables."""
    for mark in "/_.":
        code = code.replace(mark, mark + "\u200b")
    return code


def _literal(text: str) -> str:
    """A string literal of Typst, whose escapes are those of JSON but for the form of code points."""
    return json.dumps(text, ensure_ascii=False)
