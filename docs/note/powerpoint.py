"""Slides as a PowerPoint file whose text, tables and charts can be edited."""

import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from markdown_it.tree import SyntaxTreeNode
from PIL import Image
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.dml.color import RGBColor
from pptx.enum.chart import XL_CHART_TYPE, XL_LEGEND_POSITION
from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
from pptx.util import Cm, Pt

from note.deck import HEIGHT_CM, WIDTH_CM, Slide, plain, slides
from note.slide_charts import POINTS, Chart
from seg_node.core.report.charts import COLOURS

_MARGIN = 1.3
_TOP, _TITLE = 0.5, 2.3
_TITLE_POINTS = 24
_WORDS_POINTS = 18
_ALONE_POINTS = 20
"""Of words that have a slide to themselves."""
_LINE = 1.25
"""Height of a line, in its letters'."""
_BLUE, _GREY = RGBColor(0x0B, 0x3D, 0x66), RGBColor(0x55, 0x55, 0x55)
_MONO = "DejaVu Sans Mono"
_CM_OF_A_POINT = 2.54 / 72
_LETTERS = 40
"""Of a cell that ask for width; what is longer takes more lines."""
_LEAST_TABLE = 6.5
"""Height that a table takes at least: few rows are higher, rather than most of the slide empty."""
_TITLE_ONLY = 5
"""Layout of the default template that has a title and nothing else."""


def to_pptx(markdown: str, folder: Path, charts: Mapping[str, Chart], keyword: str) -> bytes:
    """Make a PowerPoint file.

    Args:
        markdown: slides, see ``deck.slides``.
        folder: to which the paths of its pictures are relative.
        charts: by the name of the picture in whose place each stands, without ending.
        keyword: written into the file's properties.
    """
    made = Presentation()
    made.slide_width, made.slide_height = Cm(WIDTH_CM), Cm(HEIGHT_CM)
    read = slides(markdown)
    properties = made.core_properties
    properties.title, properties.keywords, properties.author = plain(read[0].title), keyword, "seg_node"
    properties.created = properties.modified = datetime(2000, 1, 1)
    for slide in read:
        _draw(made, slide, folder, charts)
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def _draw(made, slide: Slide, folder: Path, charts: Mapping[str, Chart]) -> None:
    page = made.slides.add_slide(made.slide_layouts[_TITLE_ONLY])
    width = WIDTH_CM - 2 * _MARGIN
    title = page.shapes.title
    title.left, title.top, title.width, title.height = Cm(_MARGIN), Cm(_TOP), Cm(width), Cm(_TITLE)
    title.text_frame.word_wrap, title.text_frame.vertical_anchor = True, MSO_ANCHOR.TOP
    _write(title.text_frame, [slide.title], _TITLE_POINTS, _BLUE, bold=True)
    title.text_frame.paragraphs[0].alignment = PP_ALIGN.LEFT
    top = _TOP + _TITLE + 0.2
    foot = _height([slide.foot], width, POINTS) if slide.foot else 0.0
    bottom = HEIGHT_CM - foot - 0.4
    shown = slide.picture or slide.table
    if slide.words:
        points = _WORDS_POINTS if shown else _ALONE_POINTS
        height = _height(slide.words, width, points) if shown else bottom - top
        _write(_box(page, top, height), slide.words, points)
        top += height + 0.2
    if slide.table is not None:
        _table(page, slide.table, top, bottom - top)
    elif slide.picture:
        name = Path(slide.picture).stem
        if name in charts:
            frame = _chart(page, charts[name], top, bottom - top)
            frame._element.nvGraphicFramePr.cNvPr.set("descr", slide.alternative)
        else:
            picture = _picture(page, folder / slide.picture, top, bottom - top)
            picture._element.nvPicPr.cNvPr.set("descr", slide.alternative)
    if slide.foot:
        _write(_box(page, bottom + 0.1, foot), [slide.foot], POINTS, _GREY)
    page.notes_slide.notes_text_frame.text = slide.notes


def _box(page, top: float, height: float):
    shape = page.shapes.add_textbox(Cm(_MARGIN), Cm(top), Cm(WIDTH_CM - 2 * _MARGIN), Cm(height))
    shape.text_frame.word_wrap = True
    return shape.text_frame


def _height(blocks: Iterable[SyntaxTreeNode], width: float, points: int) -> float:
    """Centimetres that text takes, by the mean width of a letter."""
    letters = width / (0.52 * points * _CM_OF_A_POINT)
    lines = sum(1 + int(len(plain(part)) / letters) for block in blocks for part, _ in _paragraphs(block))
    return lines * points * _LINE * 1.2 * _CM_OF_A_POINT + 0.3


def _paragraphs(block: SyntaxTreeNode, bullet: str = "") -> list[tuple[SyntaxTreeNode, str]]:
    """Paragraphs of a block, each with the mark that stands before it."""
    if block.type in ("paragraph", "heading"):
        return [(block, bullet)]
    found = []
    for number, child in enumerate(block.children, 1):
        mark = {"bullet_list": "• ", "ordered_list": f"{number}. "}.get(block.type, bullet)
        found += _paragraphs(child, mark)
    return found


def _write(frame, blocks: Iterable[SyntaxTreeNode], points: int, colour: RGBColor | None = None, bold=False) -> None:
    paragraphs = [found for block in blocks for found in _paragraphs(block)]
    for number, (node, bullet) in enumerate(paragraphs):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        paragraph.space_after = Pt(0.4 * points if len(paragraphs) > 1 else 0)
        paragraph.line_spacing = _LINE - 0.2
        if bullet:
            _run(paragraph, bullet, points, colour, bold)
        _spans(paragraph, node.children, points, colour, bold)


def _spans(paragraph, nodes: Iterable[SyntaxTreeNode], points, colour, bold, italic=False, mono=False, link="") -> None:
    for node in nodes:
        if node.type in ("text", "code_inline"):
            _run(paragraph, node.content, points, colour, bold, italic, mono or node.type == "code_inline", link)
        elif node.type == "softbreak":
            _run(paragraph, " ", points, colour, bold)
        else:
            _spans(
                *(paragraph, node.children, points, colour),
                bold=bold or node.type == "strong",
                italic=italic or node.type == "em" and colour is None,
                mono=mono,
                link=str(node.attrs.get("href", "")) or link,
            )


def _run(paragraph, text: str, points, colour, bold, italic=False, mono=False, link="") -> None:
    run = paragraph.add_run()
    run.text = text
    run.font.size, run.font.bold, run.font.italic = Pt(points), bold, italic
    if colour is not None:
        run.font.color.rgb = colour
    if mono:
        run.font.name = _MONO
    if link.startswith("http"):
        run.hyperlink.address = link


def _table(page, node: SyntaxTreeNode, top: float, height: float) -> None:
    """A table whose columns share its width as their longest texts and words ask for."""
    rows = [row.children for section in node.children for row in section.children]
    columns = [[plain(row[i]) for row in rows] for i in range(len(rows[0]))]
    widths = [
        max(
            *(min(len(text), _LETTERS) for text in texts), *(1.8 * len(word) for text in texts for word in text.split())
        )
        for texts in columns
    ]
    whole = WIDTH_CM - 2 * _MARGIN
    shape = page.shapes.add_table(
        len(rows), len(widths), Cm(_MARGIN), Cm(top), Cm(whole), Cm(min(height, max(1.1 * len(rows), _LEAST_TABLE)))
    )
    for column, letters in zip(shape.table.columns, widths, strict=True):
        column.width = Cm(whole * letters / sum(widths))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            target = shape.table.cell(i, j)
            target.margin_left = target.margin_right = Cm(0.15)
            target.vertical_anchor = MSO_ANCHOR.MIDDLE
            _spans(target.text_frame.paragraphs[0], cell.children, POINTS, None, bold=i == 0)


def _chart(page, chart: Chart, top: float, height: float):
    data = CategoryChartData(number_format="0." + "0" * chart.decimals if chart.decimals else "0")
    data.categories = [name.replace("\n", " ") for name in chart.categories]
    for name, values in chart.series.items():
        data.add_series(name, values)
    kind = XL_CHART_TYPE.COLUMN_STACKED if chart.stacked else XL_CHART_TYPE.COLUMN_CLUSTERED
    frame = page.shapes.add_chart(kind, Cm(_MARGIN), Cm(top), Cm(WIDTH_CM - 2 * _MARGIN), Cm(height), data)
    drawn = frame.chart
    drawn.font.size = Pt(POINTS)
    drawn.has_title = False
    drawn.has_legend = len(chart.series) > 1
    if drawn.has_legend:
        drawn.legend.position, drawn.legend.include_in_layout = XL_LEGEND_POSITION.TOP, False
    drawn.value_axis.minimum_scale = 0
    if chart.stacked and chart.axis.endswith("%"):
        drawn.value_axis.maximum_scale = 100
    drawn.value_axis.has_title = True
    drawn.value_axis.axis_title.text_frame.text = chart.axis
    drawn.value_axis.axis_title.text_frame.paragraphs[0].runs[0].font.size = Pt(POINTS)
    drawn.value_axis.major_gridlines.format.line.color.rgb = RGBColor(0xE4, 0xE4, 0xE4)
    plot = drawn.plots[0]
    plot.gap_width = 50
    plot.has_data_labels = not chart.stacked
    if plot.has_data_labels:
        plot.data_labels.font.size = Pt(POINTS)
        plot.data_labels.number_format, plot.data_labels.number_format_is_linked = data.number_format, False
    for series, colour in zip(plot.series, COLOURS, strict=False):
        series.format.fill.solid()
        series.format.fill.fore_color.rgb = RGBColor.from_string(colour.lstrip("#"))
    return frame


def _picture(page, file: Path, top: float, height: float):
    """A picture as large as the place is, in the middle."""
    with Image.open(file) as image:
        wide, high = image.size
    whole = WIDTH_CM - 2 * _MARGIN
    scale = min(whole / wide, height / high)
    left = _MARGIN + (whole - scale * wide) / 2
    return page.shapes.add_picture(str(file), Cm(left), Cm(top), Cm(scale * wide), Cm(scale * high))
