"""The technical note, the slides and the tables of README and results: made of result files, and current."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

pytest.importorskip("markdown_it", reason="markdown-it-py is missing: pip install -e '.[note]'")

from helpers.made_up import experiment  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from make_note import main  # noqa: E402
from note.claims import CLAIMS  # noqa: E402
from note.deck import plain, slides  # noqa: E402
from note.documents import DOCUMENTS, RESULTS, WITH_PIECES, filled, mixed  # noqa: E402
from note.origins import APART  # noqa: E402
from note.pieces import FIGURES, PIECES, Pieces  # noqa: E402
from note.results import PAGES, SOURCES, load_results, take  # noqa: E402
from note.slide_charts import CHARTS, POINTS  # noqa: E402

from seg_node.compare.comparison import Decision, Picture, load_comparison  # noqa: E402
from seg_node.compare.verdict import RULE, judged  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES  # noqa: E402
from seg_training.study_report import summarise  # noqa: E402

PICTURE = 13
"""``MSO_SHAPE_TYPE.PICTURE``, without importing what may be missing."""
NOT_MEASURED = "Not measured yet"


@pytest.fixture
def repository(tmp_path):
    """What the note is made of and into, as a copy that may be changed."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "seg_node" / "models", tmp_path / "seg_node" / "models", copy_function=_copy)
    shutil.copytree(ROOT / "config" / "profiles", tmp_path / "config" / "profiles")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def _copy(source, target):
    """Copy a file; of weights, whose content the note does not show, the size only."""
    if source.endswith(".onnx"):
        Path(target).touch()
        os.truncate(target, Path(source).stat().st_size)
    else:
        shutil.copy(source, target)


def _check(root, capsys):
    """Exit status and the stale files."""
    status = main(["--check", "--root", str(root)])
    said = capsys.readouterr().err
    return status, re.sub("^stale: |; run.*\n", "", said).split(", ") if said else []


def test_committed_files_are_current(capsys):
    assert _check(ROOT, capsys) == (0, [])


def test_another_score_makes_every_text_stale_that_shows_it(repository, capsys):
    manifest = repository / "seg_node" / "models" / "fpn_resnet50" / "manifest.yaml"
    values = yaml.safe_load(manifest.read_text())
    values["metrics"]["camvid_val"]["miou_7"] = 12.3
    manifest.write_text(yaml.safe_dump(values))
    status, stale = _check(repository, capsys)
    assert status == 1
    texts = [f"docs/{name}.{kind}" for name in ("technical_note", "slides") for kind in ("md", "pdf")]
    texts += ["docs/slides.pptx", "docs/figures/slide_quality.svg"]
    assert stale == sorted(["README.md", "docs/results.md", *texts])


def test_a_load_is_taken_and_shown(repository, tmp_path, capsys):
    row = {"right": 7, "wrong": 0, "refused": 2, "p50_ms": 1234.4, "p99_ms": None, "work_ms": None}
    machine = {"cpu": "a processor", "cores": 3, "instructions": ["avx2"], "measured": "2026-01-02T03:04:05+00:00"}
    load = {"machine": machine | {"commit": "a" * 40, "dirty": True}, "requests": 7, "rounds": 2}
    load |= {"width": 320, "model": "m", "engine": "openvino", "queue": 16, "kinds": {"noise": row}, "seconds": 4.0}
    (tmp_path / "load.json").write_text(json.dumps(load | {"memory_mib": [100.2, 101.6, 101.5]}))
    from note.results import take

    take(tmp_path / "load.json", repository)
    assert "docs/serving.md" in _check(repository, capsys)[1]
    text = Pieces(load_results(repository)).piece("load")
    assert "| noise | 7 | 0 | 2 | 1234 | - |" in text
    assert "3.5 answers per second" in text and "100, 102, 102 MiB" in text
    assert "*Measured: a processor, 3 cores, avx2, 2026-01-02, commit aaaaaaaaa with changes; `python bench" in text


def test_results_of_another_drive_make_figures_stale(repository, capsys):
    file = repository / "docs" / "results" / "comparison.json"
    document = json.loads(file.read_text())
    for run in document["runs"]:
        run["frames"]["mask"] = [ms and ms + 1000 for ms in run["frames"]["mask"]]
    file.write_text(json.dumps(document))
    status, stale = _check(repository, capsys)
    assert status == 1
    assert "docs/figures/latency.svg" in stale


def test_edited_and_forgotten_files_are_stale(repository, capsys):
    text = repository / "docs" / "technical_note.md"
    text.write_text(text.read_text().replace("Summary", "Resume"))
    (repository / "docs" / "figures" / "old.svg").write_text("<svg/>")
    (repository / "docs" / "slides.pdf").unlink()
    (repository / "docs" / "slides.pptx").write_bytes(b"PK")
    stale = ["docs/figures/old.svg", "docs/slides.pdf", "docs/slides.pptx", "docs/technical_note.md"]
    assert _check(repository, capsys) == (1, stale)


def test_without_results_the_note_says_how_to_get_them(repository):
    shutil.rmtree(repository / "docs" / "results")
    pieces = Pieces(load_results(repository))
    pages = "".join(text for _, text in filled(repository, pieces))
    for source in [*SOURCES.values(), *PAGES.values()]:
        command = f"{NOT_MEASURED}: `{source.command}`, then `python docs/make_note.py --take {source.output}`"
        assert command in pages
    assert set(pieces.figures) == {"categories", "slide_categories", "slide_quality"}


def test_every_piece_and_figure_is_used_and_there_is_no_other():
    templates = "".join((ROOT / "docs" / "note" / f"{name}.md").read_text() for name in DOCUMENTS)
    used = [found.split() for found in re.findall(r"\{\{ (.+?) \}\}", templates)]
    in_documents = set()
    for file in WITH_PIECES:
        text = (ROOT / file).read_text()
        opened = re.findall("<!-- results:(.+?) -->", text)
        assert opened and len(opened) == text.count("<!-- /results -->"), file
        in_documents |= {name.split()[0] for name in opened}
    assert in_documents <= set(PIECES)
    assert {name for name, *_ in used} | in_documents == {"figures", "chart", *PIECES}
    assert {chart for name, *charts in used if name == "chart" for chart in charts} == set(CHARTS)
    assert {word for name, *words in used if name == "claim" for word in words} == CLAIMS
    assert {figure for name, *figures in used if name == "figures" for figure in figures} == set(FIGURES)


def test_no_result_is_typed_by_hand():
    for name in DOCUMENTS:
        # The number of a preprint is no result.
        template = re.sub(r"arXiv:[\d.]+", "", (ROOT / "docs" / "note" / f"{name}.md").read_text())
        assert re.findall(r"(?<![\w-])\d+[.,]\d+", template) == []


def _study_results(path):
    """Results of a loss study of two variants and two seeds, as a study writes them."""
    iou = dict.fromkeys(CATEGORY_NAMES, 40.0)
    cells = [
        {"variant": variant, "seed": seed, "figures": {"val": {"miou_7": value, "iou": iou, "confusion": [[1]]}}}
        for variant, values in (("plain", (40.0, 42.0)), ("lovasz", (45.0, 47.5)))
        for seed, value in enumerate(values)
    ]
    about = {"study": "loss", "question": "Loss", "machine": "a machine", "seeds": [0, 1], "variants": {}}
    path.write_text(json.dumps(about | summarise(cells, ["plain", "lovasz"], ["val"])))


def test_a_study_is_taken_and_shown(repository, tmp_path, capsys):
    pytest.importorskip("typst", reason="typst is missing: pip install -e '.[note]'")
    _study_results(tmp_path / "results.json")
    assert main(["--take", str(tmp_path / "results.json"), "--root", str(repository)]) == 0
    note = (repository / "docs" / "technical_note.md").read_text()
    # By hand: means 41 and 46.25, differences 5 and 5.5; t of one degree at 95 % is 12.706, sd of the mean 0.25.
    assert "| `lovasz` | 46.2 ± 1.8 | +5.2 (+2.1 to +8.4) | 40.0 |" in note
    assert f"{NOT_MEASURED}: `python -m seg_training study loss" not in note
    slides = (repository / "docs" / "slides.md").read_text()
    assert "differences to `plain` that are not chance: `lovasz` (+5.2, +2.1 to +8.4)" in slides
    assert (repository / "docs" / "figures" / "loss_study.svg").exists()
    capsys.readouterr()
    assert _check(repository, capsys) == (0, [])


def test_a_benchmark_is_taken_and_shown_among_the_results(repository, tmp_path):
    line = {"subject": "m", "what": "frames lost", "value": "0 of 900", "wanted": "0", "holds": True}
    machine = {"cpu": "a processor", "cores": 2}
    document = {"command": "bench", "machine": machine, "engines": {}, "lines": {"Transport": [line]}}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(document))
    take(file, repository)
    page = dict(filled(repository, Pieces(load_results(repository))))[RESULTS]
    assert "All of it by `bench`." in page
    assert (
        "*Measured: a processor, 2 cores, instructions not recorded, date not recorded, commit not recorded; " in page
    )
    assert "| m | frames lost | 0 of 900 | 0 | yes |" in page
    assert f"{NOT_MEASURED}: `make bench`" not in page


def test_a_comparison_is_taken_without_what_the_note_does_not_show(repository, tmp_path):
    whole = load_comparison(ROOT / "docs" / "results" / "comparison.json")
    whole.pictures = [Picture(0, 0.0, "worst", {"camera": "a" * 10**6})]
    whole.save(tmp_path / "comparison.json")
    (repository / "docs" / "results" / "comparison.json").unlink()
    from note.results import take

    taken = take(tmp_path / "comparison.json", repository)
    reduced = load_comparison(taken)
    assert taken.stat().st_size < 32_000 * len([run for run in reduced.runs if run.purpose == "recorded"])
    judged(whole)
    assert (reduced.verdicts, reduced.decision, reduced.pictures) == (whole.verdicts, whole.decision, [])
    assert reduced.rule == RULE
    assert [run.latencies()[0].tolist() for run in reduced.runs] == [run.latencies()[0].tolist() for run in whole.runs]


def test_a_file_of_two_pairs_has_no_verdict_anywhere(repository):
    """A winner of an earlier rule, with two processes of each, is not repeated."""
    for name in ("comparison", "comparison_video"):
        old = experiment((300.0, 200.0), (0.5, 0.6), repetitions=2)
        old.rule, old.verdicts[2].winner = "", 1
        old.decision = Decision(1, False, "beta should drive: it has 1.8 Hz higher sustained rate.")
        old.save(repository / "docs" / "results" / f"{name}.json")
    pages = {str(path): text for path, text in filled(repository, Pieces(load_results(repository)))}
    for page in ("README.md", "docs/results.md", "docs/technical_note.md", "docs/slides.md"):
        assert (
            "not enough pairs of processes for a verdict, 2 of at least 5 were measured; 3 more are needed"
            in pages[page]
        )
        assert "should drive: " not in pages[page] and "no verdict" in pages[page]
    assert "il en manque 3" in pages["docs/technical_note.md"]


def test_a_comparison_of_three_models_is_taken_and_shown(repository, tmp_path, capsys):
    pytest.importorskip("typst", reason="typst is missing: pip install -e '.[note]'")
    made = experiment((300.0, 200.0, 301.0), (0.5, 0.6, 0.5), repetitions=8)
    made.rule = RULE
    made.drive.made_up, made.models[0].training = True, "made-up drives"
    made.save(tmp_path / "comparison.json")
    assert main(["--take", str(tmp_path / "comparison.json"), "--root", str(repository)]) == 0
    capsys.readouterr()
    assert _check(repository, capsys) == (0, [])
    readme, page, note = (
        (repository / path).read_text() for path in ("README.md", "docs/results.md", "docs/technical_note.md")
    )
    for text in (readme, page, note):
        assert "|  | `alpha` | `beta` | `gamma` | better |" in text and "beta over alpha, beta over gamma" in text
        assert "> beta should drive: it has" in text
        assert "made up by the generator of images that alpha were trained on, from another seed" in text
        assert "8 fresh processes of each backbone" in text and "made-up processor, 2 cores" in text
    intervals = [line for line in page.splitlines() if line.startswith("| Median latency | gamma minus alpha |")]
    assert len(intervals) == 1 and intervals[0].endswith("| no clear winner |")
    assert "latence médiane" in note and "`beta` devrait conduire" in note
    assert len(readme.splitlines()) <= 220
    _pages_are_no_more_than_promised(repository / "docs")


def _document(*lines):
    return "\n\n".join(["# A title", "## Speed", *lines, "## Another", "*Measured: c, 8 cores, avx2, commit 3; `z`.*"])


@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [
        (
            "a, 2 cores, avx2, 90 GFLOP/s, 2026-01-02, commit 1",
            "a, 2 cores, avx2, 95 GFLOP/s, 2026-01-09, commit 1",
            False,
        ),
        ("a, 2 cores, avx2, 2026-01-02, commit 1", "b, 2 cores, avx2, 2026-01-02, commit 1", True),
        ("a, 2 cores, avx2, 2026-01-02, commit 1", "a, 4 cores, avx2, 2026-01-02, commit 1", True),
        ("a, 2 cores, avx2, 2026-01-02, commit 1", "a, 2 cores, avx2/amx_int8, 2026-01-02, commit 1", True),
        ("a, 2 cores, avx2, 2026-01-02, commit 1", "a, 2 cores, avx2, 2026-01-02, commit 2", True),
        ("a, 2 cores, avx2, 2026-01-02, commit 1", "a, 2 cores, avx2, 2026-01-02, commit 1 with changes", True),
        ("a, 2 cores, avx2, 90 GFLOP/s, commit 1", "a, 2 cores, avx2, 200 GFLOP/s, commit 1", True),
        (
            "a, 2 cores, avx2, 2026-01-02, commit not recorded",
            "a, 2 cores, avx2, 2026-01-02, commit not recorded",
            True,
        ),
        ("a, 2 cores, avx2, date not recorded, commit 1", "a, 2 cores, avx2, date not recorded, commit 1", False),
    ],
)
def test_a_section_that_mixes_machines_or_commits_says_so(one, other, wrong):
    tables = [f"*Measured: {one}; `x`.*", f"*Measured: {other}; `y`.*"]
    assert mixed(_document(*tables)) == ["## Speed"] * wrong
    assert mixed(_document(*tables, f"*{APART}: they are of two machines.*")) == []
    assert mixed(_document(tables[0], tables[0])) == [], "one result file, shown twice"


def test_no_committed_section_mixes_machines_or_commits_in_silence():
    for file in (*WITH_PIECES, *(Path("docs", f"{name}.md") for name in DOCUMENTS)):
        assert mixed((ROOT / file).read_text()) == [], file


def test_every_table_of_results_says_where_it_is_of():
    """The line below, or that below the last of several tables of one piece."""
    for file in WITH_PIECES:
        for name, made in re.findall(
            r"<!-- results:(.+?) -->\n(.*?)<!-- /results -->", (ROOT / file).read_text(), re.S
        ):
            if "\n|---" in f"\n{made}" and NOT_MEASURED not in made:
                assert re.search(r"^\*(Measured|Manifests): .+\*$", made, re.M), f"{file}: {name}"


def test_the_simulation_in_words_is_the_plan_of_compare(repository):
    results = load_results(repository)
    for row in results.verdict_simulation["rows"]:
        row["pairs"], row["false_percent"] = 8, {"none": {"latency_p50": 0.5}, "a wave": {"latency_p50": 1.2}}
    results.verdict_simulation["rows"][-1]["false_percent"]["a wave"]["latency_p50"] = 3.3
    pieces = Pieces(results)
    assert "in at most 3.3 % of the comparisons" in pieces.piece("simulation", "sentence")
    assert "| 0.5 % | 3.3 % |" in pieces.piece("simulation")


@pytest.mark.parametrize(("content", "message"), [("{}", "is no result of"), ("{", "is no JSON"), (None, "not exist")])
def test_other_files_are_refused(content, message, repository, tmp_path, capsys):
    file = tmp_path / "other.json"
    if content:
        file.write_text(content)
    assert main(["--take", str(file), "--root", str(repository)]) == 2
    assert message in capsys.readouterr().err


def test_pages_are_no_more_than_promised():
    _pages_are_no_more_than_promised(ROOT / "docs")


def _pages_are_no_more_than_promised(docs):
    typeset = pytest.importorskip("note.typeset", reason="typst is missing: pip install -e '.[note]'")
    for name, most in (("technical_note", 10), ("slides", 30), ("plan", 1)):
        text = (docs / f"{name}.md").read_text()
        pages = typeset.page_count(text, docs, slides=name == "slides")
        assert pages <= most
        if name == "slides":
            assert pages == 1 + len(re.findall(r"^---$", text, re.MULTILINE)), "a slide runs over its page"


def test_slides_in_powerpoint_can_be_edited_and_read():
    pptx = pytest.importorskip("pptx", reason="python-pptx is missing: pip install -e '.[note]'")
    deck = pptx.Presentation(ROOT / "docs" / "slides.pptx")
    expected = slides((ROOT / "docs" / "slides.md").read_text())
    pieces = Pieces(load_results(ROOT))
    list(filled(ROOT, pieces))
    assert len(deck.slides) == len(expected) <= 30
    for page, slide in zip(deck.slides, expected, strict=True):
        title = page.shapes.title.text
        assert title == plain(slide.title) and len(page.notes_slide.notes_text_frame.text) > 40, title
        shown = [shape for shape in page.shapes if shape.has_chart or shape.has_table or shape.shape_type == PICTURE]
        assert len(shown) == bool(slide.picture or slide.table), title
        name = Path(slide.picture).stem
        charts = [shape.chart for shape in shown if shape.has_chart]
        assert bool(charts) == (name in pieces.charts), title
        for chart in charts:
            series = {one.name: tuple(one.values) for one in chart.plots[0].series}
            assert series == pytest.approx(pieces.charts[name].series), title
        # What cannot be read from the last row, or leaves its slide.
        for shape in page.shapes:
            assert shape.left >= 0 and shape.left + shape.width <= deck.slide_width, title
            assert shape.top >= 0 and shape.top + shape.height <= deck.slide_height, title
            frames = [shape.text_frame] if shape.has_text_frame else []
            frames += [cell.text_frame for row in shape.table.rows for cell in row.cells] if shape.has_table else []
            runs = [run for frame in frames for paragraph in frame.paragraphs for run in paragraph.runs]
            assert all(run.font.size.pt >= POINTS for run in runs), title
        body = [shape for shape in page.shapes if shape.shape_id != page.shapes.title.shape_id]
        filled_part = max(shape.width * shape.height for shape in body) / (deck.slide_width * deck.slide_height)
        assert filled_part > 1 / 3, title


@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("text", "begins with a paragraph"),
        ("# A\n\n![](a.png)\n\n![](b.png)", "more than one picture"),
        ("# A\n\n| a |\n|---|\n| b |\n\n![](b.png)", "more than one picture"),
        ("# A\n\n```\ncode\n```", "has a fence"),
    ],
)
def test_slides_that_cannot_be_drawn_are_refused_by_name(markdown, words):
    with pytest.raises(ValueError, match=words):
        slides(markdown)


def test_words_of_a_table_do_not_print_over_each_other(tmp_path):
    typeset = pytest.importorskip("note.typeset", reason="typst is missing: pip install -e '.[note]'")

    def compiled(columns):
        row = "| " + " | ".join(["onnxruntime fp32, ms"] * columns) + " |"
        lines = [row, "|" + "---|" * columns, "| " + " | ".join(["208.4"] * columns) + " |"]
        return typeset.typeset("\n".join(["# Title", "", *lines]), tmp_path, slides=False, keyword="")

    assert compiled(7).startswith(b"%PDF")
    with pytest.raises(RuntimeError, match="wider than its page"):
        compiled(9)


def test_pdfs_are_such_that_readers_do_not_complain():
    for name in DOCUMENTS:
        pdf = (ROOT / "docs" / f"{name}.pdf").read_bytes()
        # Older Poppler: "Suspects object is wrong type (boolean)".
        assert b"/MarkInfo<</Marked true" in pdf and b"/Suspects" not in pdf


def test_a_third_model_finds_its_place(repository, tmp_path):
    models = repository / "seg_node" / "models"
    shutil.copytree(models / "fpn_resnet50", models / "fpn_third", copy_function=_copy)
    manifest = yaml.safe_load((models / "fpn_third" / "manifest.yaml").read_text())
    manifest["encoder_weights"] = "somebody's weights, MIT"
    (models / "fpn_third" / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    pages = {str(path): text for path, text in filled(repository, Pieces(load_results(repository)))}
    assert "| `fpn_third` |" in pages["README.md"]
    for page in ("docs/results.md", "docs/technical_note.md"):
        assert pages[page].count("| `fpn_third` |") == 3
        assert "`fpn_third` starts from somebody's weights, MIT." in pages[page]
    assert len(pages["README.md"].splitlines()) <= 220


def test_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for source in [*SOURCES.values(), *PAGES.values()]:
        words = source.command.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        elif words[1].endswith(".py"):
            assert all(f'"{option}"' in (ROOT / words[1]).read_text() for option in words[2:3])
        else:
            assert (ROOT / "config" / "studies" / f"{words[4]}.yaml").exists()
