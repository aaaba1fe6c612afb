"""Two checkouts held against each other: this one against itself, with its real processes, and the arithmetic."""

import checkouts
from helpers.paths import ROOT


def test_two_checkouts_take_turns(capsys):
    assert checkouts.main([str(ROOT), str(ROOT), "--pairs", "2", "--only", "decode", "preload", "info"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("decode", "2"), ("preload", "2"), ("info", "2")]
    assert all(float(value) > 0 for row in rows for value in row[1:4])
    assert checkouts.line("x", [1.0, 2.0, 4.0], [2.0, 2.0, 2.0]).split() == ["x", "2000.0", "2000.0", "1.000", "3"]
