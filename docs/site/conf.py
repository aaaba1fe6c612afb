"""Settings of Sphinx for the documents as a web site: ``make docs`` and ``make docs-check``.

The folder of sources is the repository itself, so that a link means on the site what it means on GitHub: to another
page, to a heading, or to a file, which the site then offers for download.
"""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

import seg_node

ROOT = Path(__file__).resolve().parents[2]

project = "seg_node"
author = "seg_node maintainers"
version = release = seg_node.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst", "docs/notebooks/*.py"]
# Folders are left out before they are walked through: an environment has more files than the site.
exclude_patterns = [
    *(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"),
    *("docs/note", "docs/results"),
]

myst_heading_anchors = 4
# What has no language is output or a drawing.
highlight_language = "text"
# `make docs` runs the notebooks; whoever only looks for broken links need not wait for them.
nb_execution_mode = "off"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Progress bars.
nb_output_stderr = "remove"
# Tables are none in plain CommonMark.
nb_render_markdown_format = "myst"
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "seg_node"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["style"]
html_css_files = ["wide.css"]
html_js_files = ["keyboard.js"]

API = [f"docs/api/{name}.rst" for name in ("models", "frames", "mask_now", "drives", "quality")]
"""Pages that are made of docstrings, in the order of the sidebar."""


def chapters(index: str) -> list[tuple[str, list[str]]]:
    """What the sidebar shows: the readers that the index of the documents names, with the pages it sends them to.

    Args:
        index: text of ``docs/README.md``.
    """
    found = []
    for part in re.split(r"^\*\*", index, flags=re.MULTILINE)[1:]:
        reader, _, links = part.partition("**")
        pages = re.findall(r"\]\(([\w./-]+\.(?:md|rst|py))(?:#[\w-]+)?\)", links)
        found.append((reader, [(ROOT / "docs" / page).resolve().relative_to(ROOT).as_posix() for page in pages]))
    return found


def add_sidebar(_: Sphinx, name: str, source: list[str]) -> None:
    """Append to the first page what makes the sidebar; GitHub needs none."""
    if name != root_doc:
        return
    # The first page is the title itself.
    listed = {"README.md"}
    readers = chapters((ROOT / "docs" / "README.md").read_text())
    for reader, pages in [("", ["docs/README.md"]), *readers, ("Python API", API)]:
        # A page stands in the sidebar once, where it is named first.
        new = [page for page in dict.fromkeys(pages) if page not in listed]
        listed.update(new)
        caption = f":caption: {reader}\n" if reader else ""
        lines = "\n".join(f"/{page.rpartition('.')[0]}" for page in new)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n{caption}\n{lines}\n```\n"


def lead_to_files(_: Sphinx, name: str, source: list[str]) -> None:
    """Make links to programs downloads, and leave of links to folders the words: neither is a page of the site."""
    folder = (ROOT / name).parent

    def link(found: re.Match) -> str:
        words, target = found.groups()
        path = folder / target
        if path.is_dir():
            return words
        return f"[{words}](path:{target})" if path.is_file() and path.parent.name != "notebooks" else found[0]

    source[0] = re.sub(r"(?<!!)\[([^]]+)\]\(([\w./-]+(?:\.py|/[\w-]+|/))\)", link, source[0])


def add_first_page(app: Sphinx, failed: Exception | None) -> None:
    """Let the README be what a browser opens first."""
    if failed is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", lead_to_files)
    app.connect("source-read", add_sidebar)
    app.connect("build-finished", add_first_page)
