"""Slides out of Markdown: what stands on each, for the PDF and for PowerPoint."""

import re
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

WIDTH_CM, HEIGHT_CM = 25.4, 14.29
"""Size of a slide, 16 to 9."""

_NOTE = re.compile(r"<!-- note:(.*?)-->", re.DOTALL)


@dataclass
class Slide:
    """One message: its title says it, and one picture, chart or table shows it."""

    title: SyntaxTreeNode
    words: list[SyntaxTreeNode] = field(default_factory=list)
    """Paragraphs, lists and quotes."""
    picture: str = ""
    """Path of a picture; empty without one."""
    alternative: str = ""
    """The picture in words."""
    table: SyntaxTreeNode | None = None
    foot: SyntaxTreeNode | None = None
    """Where the figures are of."""
    notes: str = ""
    """For who speaks."""


def slides(markdown: str) -> list[Slide]:
    """Read slides that ``---`` lies between.

    A slide begins with a heading. A paragraph that is emphasised as a whole is its foot; a comment that begins with
    ``note:`` has the words of the speaker.

    Raises:
        ValueError: a slide has no heading, more than one picture or table, or a block of another kind.
    """
    made: list[Slide] = []
    begins = True
    for block in SyntaxTreeNode(MarkdownIt().enable("table").parse(markdown)).children:
        if block.type == "hr":
            begins = True
        elif block.type == "html_block":
            if made and (found := _NOTE.search(block.content)):
                made[-1].notes = " ".join(found[1].split())
        elif begins:
            if block.type != "heading":
                raise ValueError(f"a slide begins with a {block.type} instead of a heading: {plain(block)[:60]!r}")
            made.append(Slide(block))
            begins = False
        else:
            _add(made[-1], block)
    return made


def _add(slide: Slide, block: SyntaxTreeNode) -> None:
    parts = block.children[0].children if block.type == "paragraph" else []
    images = [part for part in parts if part.type == "image"]
    if images or block.type == "table":
        if slide.picture or slide.table or len(images) > 1:
            raise ValueError(f"the slide {plain(slide.title)!r} has more than one picture or table")
        if images:
            slide.picture, slide.alternative = str(images[0].attrs["src"]), plain(images[0])
        else:
            slide.table = block
    elif len(parts) == 1 and parts[0].type == "em":
        slide.foot = block
    elif block.type in ("paragraph", "bullet_list", "ordered_list", "blockquote"):
        slide.words.append(block)
    else:
        raise ValueError(f"the slide {plain(slide.title)!r} has a {block.type}, which slides know nothing of")


def plain(node: SyntaxTreeNode) -> str:
    """Text of a node without its marks."""
    if node.type == "softbreak":
        return " "
    return "".join(plain(child) for child in node.children) if node.children else node.content
