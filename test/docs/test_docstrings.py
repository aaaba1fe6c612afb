"""Docstrings: their examples run, and the docs of attributes name the thing first."""

import ast
import doctest
import importlib
import re

import pytest
from helpers.paths import ROOT

EXAMPLES = {
    "seg_node.core.bundle": ["load_bundle"],
    "seg_node.core.engines": ["create_engine"],
    "seg_node.core.segmenter": ["Segmenter"],
    "seg_node.bags.drive": ["open_drive"],
    "seg_node.rig.bench": ["Bench"],
    "seg_training.datasets.synthetic.drive": ["SyntheticDrive"],
}
"""Objects whose docstrings have an example, by module."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_do_what_they_show(name, request, tmp_path, monkeypatch, capsys):
    if name == "seg_node.rig.bench":
        request.getfixturevalue("ros")
    (tmp_path / "rosbags").symlink_to(ROOT / "rosbags")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    shown = {test.name.rpartition(".")[2]: test for test in doctest.DocTestFinder().find(module) if test.examples}
    assert set(shown) >= set(EXAMPLES[name])
    runner = doctest.DocTestRunner()
    for test in shown.values():
        runner.run(test)
    assert runner.failures == 0, capsys.readouterr().out


def docs_of_attributes(source):
    """Line, name and text of each string behind an assignment."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for first, second in zip(body, body[1:], strict=False) if isinstance(body, list) else ():
            match first, second:
                case ast.Assign(targets=[target]) | ast.AnnAssign(target=target), ast.Expr(ast.Constant(str(text))):
                    yield second.lineno, ast.unparse(target), " ".join(text.split())


WITHOUT_THE_THING = re.compile(r"(Of|By|As|Between two|So many)\b")
"""Beginnings that leave it to the reader what is spoken of."""


def test_docs_of_attributes_are_found():
    source = 'A = 1\n"""Of it."""\nclass C:\n    b: int = 2\n    """Number\n    of b."""\n    c = 3\n    d = 4\n'
    assert list(docs_of_attributes(source)) == [(2, "A", "Of it."), (5, "b", "Number of b.")]


@pytest.mark.parametrize("package", ["seg_node", "seg_training"])
def test_docs_of_attributes_name_the_thing_first(package):
    found = [(file, *doc) for file in (ROOT / package).rglob("*.py") for doc in docs_of_attributes(file.read_text())]
    assert len(found) > 50
    assert not [place for place in found if WITHOUT_THE_THING.match(place[-1])]
