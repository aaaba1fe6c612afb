"""Quality and verdicts in a few sentences, in English and French."""

from collections.abc import Callable

from note.origins import missing
from note.results import SOURCES, Results
from seg_node.compare.comparison import Comparison, Verdict
from seg_node.compare.statistics import LEVEL
from seg_node.compare.tables import difference
from seg_node.compare.verdict import missing_pairs

DATA = "camvid_val"
"""The manifests' scores that the note reports."""

_QUESTIONS_IN_FRENCH = {
    "latency_p50": "latence médiane",
    "latency_p99": "99e centile de la latence",
    "sustained": "masques par seconde à saturation",
    "streaming": "miou_7 en flux",
    "offline": "miou_7 hors ligne",
}


def summary(results: Results, language: str) -> str:
    """Quality and verdicts in sentences."""
    scored = {n: m["metrics"][DATA]["miou_7"] for n, m in results.models.items() if DATA in m["metrics"]}
    return _SUMMARIES[language](scored, results.comparison)


def _answers(comparison: Comparison) -> dict[str, tuple[Verdict, dict[str, float]]]:
    """By question, one of its verdicts, and the figure of each model; questions that a model has no figure for are
    left out."""
    asked: dict[str, tuple[Verdict, dict[str, float | None]]] = {}
    for verdict in comparison.verdicts:
        _, values = asked.setdefault(verdict.question, (verdict, {}))
        values |= {comparison.models[m].name: v for m, v in zip(verdict.models, verdict.values, strict=True)}
    return {question: found for question, found in asked.items() if None not in found[1].values()}


def _summary_en(scored: dict[str, float], comparison: Comparison | None) -> str:
    reached = " and ".join(f"`{name}` {value:.1f} %" for name, value in scored.items())
    said = f"On CamVid val, `miou_7` is: {reached}." if scored else "No scores are reported."
    if comparison is None:
        return f"{said} {missing('comparison')}"
    if streaming := _answers(comparison).get("streaming"):
        verdict, values = streaming
        reached = " and ".join(f"{value:.1f} % with `{name}`" for name, value in values.items())
        between = (
            f" (difference, {100 * LEVEL:.0f} % interval: {difference(verdict.difference)})"
            if len(values) == 2 and verdict.difference
            else ""
        )
        said += f" Under load in the real node, streaming `miou_7` is {reached}{between}."
    return f"{said} The comparison's verdict: {comparison.decision.sentence}"


def _summary_fr(scored: dict[str, float], comparison: Comparison | None) -> str:
    reached = " et ".join(f"`{name}` {_comma(f'{value:.1f}')} %" for name, value in scored.items())
    said = f"Sur CamVid val, `miou_7` vaut : {reached}." if scored else "Aucun score n'est rapporté."
    if comparison is None:
        return f"{said} *La comparaison n'est pas encore mesurée : `{SOURCES['comparison'].command}`.*"
    measured = []
    for question, (verdict, values) in _answers(comparison).items():
        figures = " contre ".join(_comma(f"{value:.1f}") for value in values.values())
        unit = "" if verdict.unit == "points" else f" {verdict.unit}"
        sure = any(v.winner is not None for v in comparison.verdicts if v.question == question)
        known = any(v.difference for v in comparison.verdicts if v.question == question)
        judged = (" (différence sûre)" if sure else " (différence peut-être due au hasard)") if known else ""
        measured.append(f"{_QUESTIONS_IN_FRENCH[question]} {figures}{unit}{judged}")
    names = ", ".join(f"`{model.name}`" for model in comparison.models)
    lacking, chosen = missing_pairs(comparison), comparison.decision.winner
    ends = (
        f"Il n'y a pas assez de paires de processus pour un verdict : il en manque {lacking}."
        if lacking
        else "Le choix est un compromis."
        if comparison.decision.trade
        else f"Conclusion de la comparaison : `{comparison.models[chosen].name}` devrait conduire."
        if chosen is not None
        else "La comparaison n'en désigne aucun."
    )
    return f"{said} Sous charge, dans l'ordre {names} : {', '.join(measured)}. {ends}"


def _comma(text: str) -> str:
    return text.replace(".", ",")


_SUMMARIES: dict[str, Callable[..., str]] = {"english": _summary_en, "french": _summary_fr}
