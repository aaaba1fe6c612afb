"""Docstrings: their examples run, and the docs of attributes name the thing first."""

import doctest
import importlib

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
