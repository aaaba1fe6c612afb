"""Markdown to PDF through Typst: the small part of Markdown that the note and the slides use.

All text reaches Typst as string literals, so that nothing in it can be taken for markup.
"""

import json
from collections.abc import Sequence
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
#show table: set text(size: 8pt)
#show table: set par(justify: false)
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
#show table: set text(size: 11.5pt)
#show raw: set text(font: "DejaVu Sans Mono", size: 1.05em)
#show link: set text(fill: rgb("#0b5394"))
"""
_WHOLE_ROWS = 15
"""Tables of no more rows stand on one page."""
_TABLE_STYLE = 'stroke: (x, y) => (bottom: if y == 0 {0.8pt} else {0.3pt + rgb("#bbbbbb")}), inset: (x: 4pt, y: 3.2pt)'


def typeset(markdown: str, folder: Path, slides: bool, keyword: str) -> bytes:
    """Make a PDF.

    Args:
        markdown: text; ``---`` between slides.
        folder: to which the paths of its images are relative.
        slides: lay it out for a screen, a page for each slide.
        keyword: written into the document's metadata.
    """
    return typst.compile(_source(markdown, slides, keyword), root=folder, font_paths=[_FIGURE_FONTS])


def page_count(markdown: str, folder: Path, slides: bool) -> int:
    """Pages that ``typeset`` makes."""
    pages = typst.compile(_source(markdown, slides, ""), root=folder, font_paths=[_FIGURE_FONTS], format="svg")
    return len(pages) if isinstance(pages, list) else 1


def _source(markdown: str, slides: bool, keyword: str) -> bytes:
    blocks = SyntaxTreeNode(MarkdownIt().enable("table").parse(markdown)).children
    # Comments, which are for readers of the Markdown.
    blocks = [block for block in blocks if block.type != "html_block"]
    title = next((_plain(block) for block in blocks if block.type == "heading"), "")
    head = (_SLIDES if slides else _NOTE).format(title=_literal(title), keyword=_literal(keyword))
    if not slides:
        return (head + "\n\n".join(map(_block, blocks))).encode()
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
        all(_plain(row[i])[:1] in "+-0123456789." for row in rows) and any(_plain(row[i]) for row in rows)
        for i in range(len(header))
    ]
    align = ", ".join("right" if right else "left" for right in numeric)
    cells = ", ".join(f"[{_inline(cell, breaking=True)}]" for row in rows for cell in row)
    names = ", ".join(f"[#strong[{_inline(cell, breaking=True)}]]" for cell in header)
    table = f"table(columns: {len(header)}, align: ({align},), {_TABLE_STYLE}, table.header({names}), {cells})"
    return f"#align(center, block(breakable: {str(len(rows) > _WHOLE_ROWS).lower()}, {table}))"


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
