"""Knocks the segmentation node about and prints what it did: ``make chaos``, or

    python reliability/chaos.py [--only NAME ...] [--quick] [--out FOLDER]

Each row plays with processes of its own. The exit status is 1 if a row is not as expected. ``--list`` names the rows.
"""

import argparse
import json
import sys
import textwrap
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import camera_rows  # noqa: F401
import diagnosis_rows  # noqa: F401
import engine_rows  # noqa: F401
import now_rows  # noqa: F401
import profile_rows  # noqa: F401
import projection_rows  # noqa: F401
import system_rows  # noqa: F401
from rows import FAULTS, Fault, Seen, Skipped, Stage
from scene import prepare
from tqdm import tqdm

from seg_node.commands.options import exit_on_sigterm
from seg_node.core.machine import setting

_COLUMNS = (("fault", 30), ("expected", 34), ("seen", 44), ("next mask", 9), ("unaccounted", 11))


def play(fault: Fault, folder: Path, quick: bool) -> dict:
    """Play one row.

    Returns:
        The row for the table and the JSON; ``holds`` is None where it was skipped.
    """
    began = time.monotonic()
    row = {"name": fault.name, "fault": fault.title, "expected": fault.expected}
    try:
        seen: Seen = fault.act(Stage(folder, quick))
        row |= {
            "seen": seen.text(),
            "holds": seen.holds,
            "next_mask_s": seen.next_mask_s,
            "unaccounted": seen.unaccounted,
            "checks": seen.checks,
            "books": [asdict(books) | {"lost": books.lost} for books in seen.books],
        }
    except Skipped as reason:
        row |= {"seen": f"skipped: {reason}", "holds": None, "next_mask_s": None, "unaccounted": None}
    except Exception as error:
        # A row that breaks is a row that does not hold; the others are still played.
        (folder / "traceback.txt").write_text(traceback.format_exc())
        reason = f"{type(error).__name__}: {error}"
        row |= {"seen": reason, "holds": False, "next_mask_s": None, "unaccounted": None, "logs": str(folder)}
    return row | {"took_s": round(time.monotonic() - began, 1)}


def cells(row: dict) -> list[str]:
    """What a row says in each of ``_COLUMNS``."""
    next_mask = "" if row["next_mask_s"] is None else f"{row['next_mask_s']:.2f} s"
    unaccounted = "" if row["unaccounted"] is None else str(row["unaccounted"])
    mark = "FAILED: " if row["holds"] is False else ""
    return [row["fault"], row["expected"], mark + row["seen"], next_mask, unaccounted]


def markdown(rows: list[dict]) -> str:
    """The rows as a table for documents."""
    lines = [[name for name, _ in _COLUMNS], ["---"] * len(_COLUMNS), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(rows: list[dict]) -> str:
    """The rows for a terminal, each cell on lines of its column's width."""

    def line(texts: list[str]) -> list[str]:
        wrapped = [textwrap.wrap(text, width) or [""] for text, (_, width) in zip(texts, _COLUMNS, strict=True)]
        height = max(map(len, wrapped))
        padded = [[*cell, *[""] * (height - len(cell))] for cell in wrapped]
        return [
            "| " + " | ".join(cell[i].ljust(width) for cell, (_, width) in zip(padded, _COLUMNS, strict=True)) + " |"
            for i in range(height)
        ]

    lines = line([name for name, _ in _COLUMNS]) + ["|" + "|".join("-" * (width + 2) for _, width in _COLUMNS) + "|"]
    for row in rows:
        lines += line(cells(row))
    return "\n".join(lines)


def main() -> int:
    """Play the rows; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(FAULTS), help="these rows only")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--out", type=Path, default=Path("chaos_output"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{fault.name:28} {fault.title}" for fault in FAULTS.values()))
        return 0
    logs = prepare(options.out)
    rows, machine = [], setting()
    with tqdm(options.only or list(FAULTS), unit="fault", dynamic_ncols=True) as bar:
        for name in bar:
            bar.set_description(name)
            folder = logs / name
            folder.mkdir()
            rows.append(play(FAULTS[name], folder, options.quick))
            result = {"quick": options.quick, "machine": machine, "rows": rows}
            (options.out / "chaos.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "chaos.md").write_text(markdown(rows))
    print(table(rows))
    failed = [row["name"] for row in rows if row["holds"] is False]
    print(f"\n{len(rows) - len(failed)} of {len(rows)} rows hold or were skipped; {options.out / 'chaos.json'}")
    if failed:
        print(f"FAILED: {', '.join(failed)}; logs in {logs}")
    return 1 if failed else 0


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
