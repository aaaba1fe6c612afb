"""``seg_node profile``: what a profile says, and whether it holds on this machine."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_node.core.profile.file import Profile, read_profile
from seg_node.core.profile.fit import misfit
from seg_node.core.report.tables import NONE, aligned, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = commands.add_parser("show", help="print it, and say whether it holds on this machine")
    show.add_argument("file", type=Path, metavar="FILE", help="what `seg_node tune` wrote")


def run(options: argparse.Namespace) -> int:
    """Print a profile; returns the exit status: 0, 1 if it does not hold here, 2 for a file that is no profile."""
    profile = read_profile(options.file)
    print(to_text(profile))
    problem = misfit(profile)
    print(f"\na node here does not take it: {problem}" if problem else "\na node here takes it")
    return 1 if problem else 0


def to_text(profile: Profile) -> str:
    """A profile in words and tables."""
    values = profile.values
    machine, drive = values["machine"], values["drive"]
    engines = ", ".join(f"{name} {version}" for name, version in machine["engines"].items())
    lines = [
        values["why"],
        "",
        *(f"{name:12}  {_shown(value)}" for name, value in values["settings"].items()),
        f"{'topic':12}  {values['topic']}",
        f"{'inference':12}  {values['inference_ms']['p50']:g} ms; a drift is told of outside"
        f" {profile.band[0]:g} to {profile.band[1]:g} ms",
        "",
        f"measured {values['created'][:10]} on {machine['cpu']}, {machine['cores']} cores,"
        f" {'/'.join(machine['instructions']) or 'no vector instructions'}; {engines}",
        f"drive {drive['path']}, sha256 {drive['sha256'][:12]}, against {drive['truth']}",
        "",
        aligned(_table([values["winner"], *values["runners_up"]])),
    ]
    return "\n".join(lines)


def _table(rows: list[Mapping[str, Any]]):
    cells = []
    for row in rows:
        between = f"{row['low']:.1f} to {row['high']:.1f}" if "low" in row and "high" in row else NONE
        figures = [number(row.get("score")), between, number(row.get("age_ms"), 0), number(row.get("cpu_cores"))]
        cells.append([str(row.get("candidate", NONE)), *figures])
    return ["candidate", "miou_7", "interval", "age p95, ms", "cores"], cells


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
