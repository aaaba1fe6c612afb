"""Where figures are of: the line below each table, and a word where tables of several machines stand side by side."""

import re

from note.results import SOURCES, Results, Source
from seg_node.core.report.tables import origin

APART = "Not side by side"
"""Words that begin the sentence of a section whose tables are of several machines or commits."""


def missing(name: str) -> str:
    """Sentence for results that do not exist yet."""
    return how_to_get(SOURCES[name])


def how_to_get(source: Source) -> str:
    """Sentence for a result file that does not exist yet."""
    return f"*Not measured yet: `{source.command}`, then `python docs/make_note.py --take {source.output}`.*"


def measured(results: Results, name: str) -> str:
    """The line below a table: on which machine, when and of which commit it was measured, and by which command."""
    where = " and ".join(origin(setting) for setting in results.settings(name))
    return f"*Measured: {where}; `{SOURCES[name].command}`.*"


def origins(text: str) -> list[str]:
    """Where the tables of a text are of, as the lines below them say; once for each result file."""
    return [where for where, _ in dict.fromkeys(re.findall(r"\*Measured: (.+?); `(.+?)`", text))]


def apart(where: list[str]) -> bool:
    """Whether figures of these origins are of several machines, speeds or commits, or nobody knows whether they are."""
    if len(where) < 2:
        return False
    if any("not recorded" in re.sub("date not recorded", "", one) for one in where):
        return True
    speeds = [int(found) for one in where for found in re.findall(r"(\d+) GFLOP/s", one)]
    same = {re.sub(r", (\d+ GFLOP/s|\d{4}-\d\d-\d\d|date not recorded)", "", one) for one in where}
    return len(same) > 1 or bool(speeds) and max(speeds) > 1.1 * min(speeds)


def origin_of(results: Results, name: str) -> str:
    """The same, or how to get the result file; of ``manifests``, where each model was trained."""
    if name == "manifests":
        return manifests(results)
    return missing(name) if getattr(results, name) is None else measured(results, name)


def source(results: Results, name: str) -> str:
    """The foot of a slide: the file, the day and the commit, where there is no place for more."""
    if name == "manifests":
        return "*Source: the manifests of the shipped bundles.*"
    if getattr(results, name) is None:
        return missing(name)
    of = [
        ", ".join([*([setting["measured"][:10]] if setting.get("measured") else []), f"commit {setting['commit'][:9]}"])
        for setting in results.settings(name)
        if setting.get("commit")
    ]
    return f"*Source: {'; '.join([f'`docs/results/{SOURCES[name].file}`', *of])}.*"


def together(results: Results, *names: str) -> str:
    """Whether the figures of several result files may be held against each other; empty where there is but one."""
    known = [name for name in names if getattr(results, name) is not None]
    if len(known) < 2:
        return ""
    lines = [measured(results, name) for name in known]
    if not apart(origins("\n".join(lines))):
        return "These tables are of one machine and one commit."
    files = ", ".join(f"`{SOURCES[name].file}`" for name in known)
    return (
        f"*{APART}: the figures of {files} are of different machines, speeds or commits, or it is not recorded that"
        " they are of the same. The line below each table says what is known. Hold figures of one table against each"
        " other, not those of two.*"
    )


def manifests(results: Results) -> str:
    """The line below a table of what manifests say: where each model was trained."""
    trained: dict[str, list[str]] = {}
    for name, model in results.models.items():
        training = model["training"]
        commit = (training.get("commit") or "")[:9]
        parts = (training.get("machine") or "machine not recorded", model["date"], f"commit {commit or 'not recorded'}")
        trained.setdefault(", ".join(parts), []).append(f"`{name}`")
    parts = [f"{' and '.join(names)} trained on {where}" for where, names in trained.items()]
    return f"*Manifests: {'; '.join(parts)}.*"
