"""The files that are made: Markdown, figures, PDFs and parts of others; and whether those on disk are current."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from note.origins import APART, apart, origins
from note.pieces import Pieces
from note.results import Results
from note.slide_charts import Chart
from seg_node.core.report.charts import Figure

DOCS = Path("docs")
README = Path("README.md")
RESULTS = DOCS / "results.md"
WITH_PIECES = (
    README,
    RESULTS,
    *(
        DOCS / f"{page}.md"
        for page in ("serving", "replay", "planner", "cameras", "mask_now", "performance", "reliability", "tune")
    ),
)
"""Documents written by hand, in which some parts are made."""
DOCUMENTS = ("technical_note", "slides", "plan")
"""Templates in ``docs/note``, and what is made of them in ``docs``."""
POWERPOINT = DOCS / "slides.pptx"

_REGION = re.compile(r"(<!-- results:([\w ]+) -->\n).*?(<!-- /results -->)", re.DOTALL)
_HEAD = "<!-- Made by `make note` from docs/note/{name}.md and docs/results: change these, not this file. -->\n"


def filled(root: Path, pieces: Pieces) -> Iterator[tuple[Path, str]]:
    """Markdown files with what they must hold; ``pieces`` gets the figures that they show."""
    for name in DOCUMENTS:
        template = (root / DOCS / "note" / f"{name}.md").read_text()
        yield DOCS / f"{name}.md", _HEAD.format(name=name) + pieces.fill(template)
    for path in WITH_PIECES:
        text = (root / path).read_text()
        yield path, _REGION.sub(lambda found: f"{found[1]}{pieces.piece(*found[2].split())}\n{found[3]}", text)


def mixed(text: str) -> list[str]:
    """Headings of the sections that set figures of several machines or commits side by side without a word on it.

    Args:
        text: Markdown whose tables have lines that say where they are of; a slide is a section, too.
    """
    sections = re.split(r"^(?=##? |---$)", text, flags=re.MULTILINE)
    wrong = [section for section in sections if apart(origins(section)) and APART not in section]
    return [next((line for line in section.splitlines() if line.startswith("#")), "") for section in wrong]


def stale(root: Path, results: Results) -> list[str]:
    """Files that ``write`` would change, as paths below the root; nothing is written.

    Text is compared as it is. Figures and PDFs differ from one version of their libraries to the next, so they hold a
    hash of what they show, and that is compared.
    """
    pieces = Pieces(results)
    texts = dict(filled(root, pieces))
    wrong = [path for path, text in texts.items() if _content(root / path) != text.encode()]
    for name, figure in pieces.figures.items():
        path = DOCS / "figures" / f"{name}.svg"
        if _mark(figure).encode() not in _content(root / path):
            wrong.append(path)
    drawn = {f"{name}.svg" for name in pieces.figures}
    wrong += [DOCS / "figures" / path.name for path in (root / DOCS / "figures").glob("*") if path.name not in drawn]
    for name in DOCUMENTS:
        if _hash(texts[DOCS / f"{name}.md"]).encode() not in _content(root / DOCS / f"{name}.pdf"):
            wrong.append(DOCS / f"{name}.pdf")
    if _hash(texts[DOCS / "slides.md"]) not in _properties(root / POWERPOINT):
        wrong.append(POWERPOINT)
    return sorted(str(path) for path in wrong)


def write(root: Path, results: Results) -> list[Path]:
    """Write all files; returns them."""
    # Only here: to check what is committed, nothing needs to be typeset.
    from note.powerpoint import to_pptx
    from note.typeset import typeset

    pieces = Pieces(results)
    texts = dict(filled(root, pieces))
    for path, text in texts.items():
        if _content(root / path) != text.encode():
            (root / path).write_text(text)
    figures = root / DOCS / "figures"
    figures.mkdir(exist_ok=True)
    for old in figures.glob("*.svg"):
        if old.stem not in pieces.figures:
            old.unlink()
    written = [root / path for path in texts]
    for name, figure in pieces.figures.items():
        path = figures / f"{name}.svg"
        path.write_text(_sized(figure.svg).replace("</svg>", f"<!-- {_mark(figure)} -->\n</svg>"))
        written.append(path)
    for name in DOCUMENTS:
        text = texts[DOCS / f"{name}.md"]
        pdf = root / DOCS / f"{name}.pdf"
        pdf.write_bytes(typeset(text, root / DOCS, slides=name == "slides", keyword=_hash(text)))
        written.append(pdf)
    text = texts[DOCS / "slides.md"]
    (root / POWERPOINT).write_bytes(to_pptx(text, root / DOCS, pieces.charts, _hash(text)))
    return [*written, root / POWERPOINT]


def _properties(path: Path) -> str:
    """Properties of a PowerPoint file as XML; empty without such a file."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.read("docProps/core.xml").decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(figure: Figure | Chart) -> str:
    """Hash of what a figure shows, by its words, as it stands in its file."""
    return f"shows {_hash(figure.caption + figure.numbers)}"


def _sized(svg: str) -> str:
    """A figure with the size of its view box, without which a page would blow it up to its own width."""
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    return svg.replace("<svg", f'<svg width="{width}pt" height="{height}pt"', 1)
