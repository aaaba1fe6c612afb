"""Markdown to PDF through Typst: the small part of Markdown that the note and the slides use.

All text reaches Typst as string literals, so that nothing in it can be taken for markup.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import typst
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from matplotlib import get_data_path

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
#set page(width: 25.4cm, height: 14.29cm, margin: (x: 1.6cm, top: 1.2cm, bottom: 1.3cm), numbering: "1")
#set text(font: "DejaVu Sans", size: 16pt, lang: "en")
#set par(leading: 0.65em, spacing: 1em)
#set list(spacing: 1em)
#set enum(spacing: 1em)
#show heading: set text(size: 24pt, fill: rgb("#0b3d66"))
#show heading: set block(below: 1em)
#let table-size = 11.5pt
#show raw: set text(font: "DejaVu Sans Mono", size: 1.05em)
#show link: set text(fill: rgb("#0b5394"))
"""
_WHOLE_ROWS = 15
"""Tables of no more rows stand on one page."""
_FITTED = """
#let fitted(words, cells, ..options) = text(size: table-size, layout(size => context {
  let inset = 8pt
  let widest(contents) = calc.max(..contents.map(content => measure(content).width)) + inset
  let least = words.map(widest)
  let most = range(words.len()).map(column => widest(cells.map(row => row.at(column))))
  assert(least.sum() <= size.width, message: "a table is wider than its page, even with one word a line")
  let spare = size.width - least.sum()
  let wanted = most.sum() - least.sum()
  let share = if wanted > spare { spare / wanted } else { 1 }
  let columns = range(words.len()).map(column => least.at(column) + share * (most.at(column) - least.at(column)))
  table(columns: columns, ..options)
}))
"""
"""A table whose columns are as wide as their longest word at least, which Typst's own automatic ones are not."""
_TABLE_STYLE = 'stroke: (x, y) => (bottom: if y == 0 {0.8pt} else {0.3pt + rgb("#bbbbbb")}), inset: (x: 4pt, y: 3.2pt)'


def typeset(markdown: str, folder: Path, slides: bool, keyword: str) -> bytes:
    """Make a PDF.

    Args:
        markdown: text; ``---`` between slides.
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
    blocks = SyntaxTreeNode(MarkdownIt().enable("table").parse(markdown)).children
    # Comments, which are for readers of the Markdown.
    blocks = [block for block in blocks if block.type != "html_block"]
    title = next((_plain(block) for block in blocks if block.type == "heading"), "")
    head = (_SLIDES if slides else _NOTE).format(title=_literal(title), keyword=_literal(keyword)) + _FITTED
    if not slides:
        return (head + "\n\n".join(map(_with_next, blocks, [*blocks[1:], None]))).encode()
    pages: list[list[SyntaxTreeNode]] = [[]]
    for block in blocks:
        if block.type == "hr":
            pages.append([])
        else:
            pages[-1].append(block)
    return (head + "\n#pagebreak()\n".join(map(_slide, pages))).encode()


def _slide(blocks: Sequence[SyntaxTreeNode]) -> str:
    """Text to the left of a picture, where a slide has both; tables need the whole width."""
    heading = [block for block in blocks if block.type == "heading"]
    pictures = [block for block in blocks if _images(block)]
    rest = [block for block in blocks if block not in heading and block not in pictures]
    words = [block for block in rest if block.type in ("bullet_list", "ordered_list", "paragraph", "blockquote")]
    top = "\n\n".join(map(_block, heading))
    if words and len(words) == len(rest) and len(pictures) == 1 and len(_images(pictures[0])) == 1:
        left, right = ("\n\n".join(map(_block, part)) for part in (words, pictures))
        return f"{top}\n\n#grid(columns: (1fr, 1fr), gutter: 1cm, align: horizon, [{left}], [{right}])"
    return f"{top}\n\n" + "\n\n".join(map(_block, [block for block in blocks if block not in heading]))


def _with_next(block: SyntaxTreeNode, after: SyntaxTreeNode | None) -> str:
    """A block; one that announces the table behind it does not stay behind at the end of a page."""
    announces = after is not None and after.type == "table" and _plain(block).endswith(":")
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
        f"image({_literal(image.attrs['src'])}, width: 100%, alt: {_literal(_plain(image))})" for image in images
    )
    words = "".join(_span(child) for child in node.children[0].children if child.type not in ("image", "softbreak"))
    grid = f"grid(columns: ({'1fr, ' * len(images)}), gutter: 0.6cm, {cells})"
    return (
        f"#block(breakable: false, width: 100%)[#align(center)[#block(width: {width})[#{grid}]"
        f"#text(size: 0.8em)[{words}]]]"
    )


def _table(node: SyntaxTreeNode) -> str:
    """A table; columns of figures are set to the right."""
    head, *body = (section.children for section in node.children)
    rows = [row.children for section in body for row in section]
    header = head[0].children
    numeric = [
        all(_plain(row[i])[:1] in "+-−0123456789." for row in rows) and any(_plain(row[i]) for row in rows)
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
    table = (
        f"fitted({_array(map(_array, words))}, {_array(map(_array, [names, *lines]))}, align: {_array(align)},"
        f" {_TABLE_STYLE}, table.header({', '.join(names)}), {cells})"
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


def _plain(node: SyntaxTreeNode) -> str:
    return "".join(_plain(child) for child in node.children) if node.children else node.content


def _literal(text: str) -> str:
    """A string literal of Typst, whose escapes are those of JSON but for the form of code points."""
    return json.dumps(text, ensure_ascii=False)
