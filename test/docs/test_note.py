"""The technical note, the slides and the tables of README and results: made of result files, and current."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from make_note import main  # noqa: E402
from note.documents import DOCUMENTS, RESULTS, filled  # noqa: E402
from note.pieces import FIGURES, PIECES, Pieces  # noqa: E402
from note.results import SOURCES, load_results, take  # noqa: E402

from seg_node.compare.comparison import Picture, load_comparison  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES  # noqa: E402
from seg_training.study_report import summarise  # noqa: E402

NOT_MEASURED = "Not measured yet"


@pytest.fixture
def repository(tmp_path):
    """What the note is made of and into, as a copy that may be changed."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "seg_node" / "models", tmp_path / "seg_node" / "models", copy_function=_copy)
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
    texts = [f"docs/{name}.{kind}" for name in DOCUMENTS for kind in ("md", "pdf")]
    assert stale == sorted(["README.md", "docs/results.md", *texts])


def test_a_load_is_taken_and_shown(repository, tmp_path, capsys):
    row = {"right": 7, "wrong": 0, "refused": 2, "p50_ms": 1234.4, "p99_ms": None, "work_ms": None}
    load = {"created": "2026-01-02T03:04:05", "machine": {"cpu": "a processor", "cores": 3}, "requests": 7, "rounds": 2}
    load |= {"width": 320, "model": "m", "engine": "openvino", "queue": 16, "kinds": {"noise": row}, "seconds": 4.0}
    (tmp_path / "load.json").write_text(json.dumps(load | {"memory_mib": [100.2, 101.6, 101.5]}))
    from note.results import take

    take(tmp_path / "load.json", repository)
    assert "docs/serving.md" in _check(repository, capsys)[1]
    text = Pieces(load_results(repository)).piece("load")
    assert "| noise | 7 | 0 | 2 | 1234 | - |" in text
    assert "3.5 answers per second" in text and "100, 102, 102 MiB" in text


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
    assert _check(repository, capsys) == (1, ["docs/figures/old.svg", "docs/slides.pdf", "docs/technical_note.md"])


def test_without_results_the_note_says_how_to_get_them(repository):
    shutil.rmtree(repository / "docs" / "results")
    pieces = Pieces(load_results(repository))
    note = pieces.fill((repository / "docs" / "note" / "technical_note.md").read_text())
    for source in SOURCES.values():
        command = f"{NOT_MEASURED}: `{source.command}`, then `python docs/make_note.py --take {source.output}`"
        assert command in note
    assert set(pieces.figures) == {"categories"}


def test_every_piece_and_figure_is_used_and_there_is_no_other():
    from note.documents import WITH_PIECES

    templates = "".join((ROOT / "docs" / "note" / f"{name}.md").read_text() for name in DOCUMENTS)
    used = [found.split() for found in re.findall(r"\{\{ (.+?) \}\}", templates)]
    assert {name for name, *_ in used} == {"figures", *PIECES}
    for file in WITH_PIECES:
        text = (ROOT / file).read_text()
        opened = re.findall("<!-- results:(.+?) -->", text)
        assert opened and len(opened) == text.count("<!-- /results -->"), file
        assert {name.split()[0] for name in opened} <= set(PIECES), file
    assert {figure for name, *figures in used if name == "figures" for figure in figures} == set(FIGURES)


def test_no_result_is_typed_by_hand():
    for name in DOCUMENTS:
        template = (ROOT / "docs" / "note" / f"{name}.md").read_text()
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
    assert "`bench` on 2 cores of a processor." in page
    assert "| m | frames lost | 0 of 900 | 0 | yes |" in page
    assert f"{NOT_MEASURED}: `make bench`" not in page


def test_a_comparison_is_taken_without_what_the_note_does_not_show(repository, tmp_path):
    whole = load_comparison(ROOT / "docs" / "results" / "comparison.json")
    whole.pictures = [Picture(0, 0.0, "worst", {"camera": "a" * 10**6})]
    whole.save(tmp_path / "comparison.json")
    (repository / "docs" / "results" / "comparison.json").unlink()
    from note.results import take

    taken = take(tmp_path / "comparison.json", repository)
    assert taken.stat().st_size < 300_000
    reduced = load_comparison(taken)
    assert (reduced.verdicts, reduced.decision, reduced.pictures) == (whole.verdicts, whole.decision, [])
    assert [run.latencies()[0].tolist() for run in reduced.runs] == [run.latencies()[0].tolist() for run in whole.runs]


@pytest.mark.parametrize(("content", "message"), [("{}", "is no result of"), ("{", "is no JSON"), (None, "not exist")])
def test_other_files_are_refused(content, message, repository, tmp_path, capsys):
    file = tmp_path / "other.json"
    if content:
        file.write_text(content)
    assert main(["--take", str(file), "--root", str(repository)]) == 2
    assert message in capsys.readouterr().err


def test_pages_are_no_more_than_promised():
    typeset = pytest.importorskip("note.typeset", reason="typst is missing: pip install -e '.[note]'")
    for name, most in (("technical_note", 10), ("slides", 30)):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        pages = typeset.page_count(text, ROOT / "docs", slides=name == "slides")
        assert pages <= most
        if name == "slides":
            assert pages == 1 + len(re.findall(r"^---$", text, re.MULTILINE)), "a slide runs over its page"


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
    for source in SOURCES.values():
        words = source.command.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        elif words[1].endswith(".py"):
            assert all(f'"{option}"' in (ROOT / words[1]).read_text() for option in words[2:3])
        else:
            assert (ROOT / "config" / "studies" / f"{words[4]}.yaml").exists()
