"""How many of the deliberate breaks that mutmut made the tests have noticed, by module: after ``mutmut run``."""

import json
import sys
from collections import Counter
from pathlib import Path

THRESHOLD = 85.0
"""Percent of the mutants of each module that must be noticed."""

_NOTICED = {1, 3, -24, 24, 36, 152, 255, -11, -9}
"""Exit codes in mutmut's records: a test failed or broke, the time ran out, the process died."""
_MISSED = {0, 5, 33}
"""All tests passed, or none runs the code at all."""


def score(exit_codes: list[int | None]) -> tuple[int, int, int]:
    """Mutants that were noticed, missed, and not tried, by their exit codes."""
    kinds = Counter("noticed" if c in _NOTICED else "missed" if c in _MISSED else "untried" for c in exit_codes)
    return kinds["noticed"], kinds["missed"], kinds["untried"]


def main(folder: Path = Path("mutants")) -> int:
    """Print the table; the exit status is 1 below the threshold."""
    low = False
    print(f"{'module':44} {'mutants':>8} {'noticed':>8} {'missed':>8} {'untried':>8}       %")
    for file in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"]
        noticed, missed, untried = score(list(codes.values()))
        if not noticed + missed:
            continue
        percent = 100 * noticed / (noticed + missed)
        low |= percent < THRESHOLD
        name = file.relative_to(folder).as_posix().removesuffix(".meta")
        print(f"{name:44} {len(codes):8} {noticed:8} {missed:8} {untried:8}  {percent:6.1f}")
        for key, code in codes.items():
            if code in _MISSED:
                print(f"  missed: {key} (mutmut show {key})")
    return int(low)


if __name__ == "__main__":
    sys.exit(main())
