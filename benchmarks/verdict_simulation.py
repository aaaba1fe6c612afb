"""How often the comparison's rule names a winner where there is none, and which difference it finds.

    python benchmarks/verdict_simulation.py --out verdict_simulation.json

Two node processes are made up, pair after pair in the order of ``plan.turns``: each process has a median latency of its
own, spread by so many milliseconds around that of its backbone; each mask has noise; the machine grows slower or faster
from one process to the next. What is judged goes through the functions that judge real runs.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.compare.plan import turns
from seg_node.compare.statistics import LEVEL, Units, quantile_differences
from seg_node.core.machine import setting

SPREADS = (0.0, 5.0, 10.0, 20.0)
"""Standard deviation of the median latency from process to process, in milliseconds."""
Drift = Callable[[np.ndarray, np.random.Generator], np.ndarray]
DRIFTS: dict[str, Drift] = {
    "none": lambda at, rng: 0.0 * at,
    "2 ms slower each process": lambda at, rng: 2.0 * at,
    "a step of 30 ms at any time": lambda at, rng: 30.0 * (at >= rng.integers(len(at))),
    "a walk of 5 ms each process": lambda at, rng: 5.0 * np.cumsum(rng.standard_normal(len(at))),
    "a wave of 20 ms of any period": lambda at, rng: (
        20.0 * np.sin(rng.uniform(0.2, 2) * at + rng.uniform(0, 2 * np.pi))
    ),
}
"""What the machine adds to the latency of each process, in milliseconds, by its place in the order."""
PAIRS = (5, 6, 8)
LATENCY_MS = 170.0
_RUN_MS = 9000.0
_NOISE_MS = 6.0
_TAIL_MS = 4.0
QUESTIONS = ("latency_p50", "latency_p99", "sustained")


def found(rng: np.random.Generator, pairs: int, spread: float, drift: Drift, gain: float = 0.0) -> dict[str, int]:
    """Judge one made-up comparison.

    Args:
        rng: source of the noise.
        pairs: processes of each backbone.
        spread: see ``SPREADS``.
        drift: one of ``DRIFTS``.
        gain: milliseconds by which the second backbone is faster.

    Returns:
        By question, -1 or 1 where a difference is found, 0 where it may be chance.
    """
    order = np.concatenate(turns(2, pairs, seed=int(rng.integers(2**31))))
    slowed = drift(np.arange(len(order)), rng)
    latencies: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    for backbone, slow in zip(order, slowed, strict=True):
        middle = LATENCY_MS - gain * backbone + slow + spread * rng.standard_normal()
        # However the machine drifts, no frame takes no time.
        middle = max(middle, 20.0)
        count = int(_RUN_MS / middle)
        noise = _NOISE_MS * rng.standard_normal(count) + rng.exponential(_TAIL_MS, count)
        latencies[backbone].append(middle + noise)
        rates[backbone].append(1e3 / middle)
    units = {
        "latency_p50": quantile_differences(*latencies, 0.5),
        "latency_p99": quantile_differences(*latencies, 0.99),
        "sustained": np.subtract(rates[1], rates[0]),
    }
    return {question: Units(values).interval(LEVEL).sign for question, values in units.items()}


def shares(trials: int, seed: int = 0, **of_cell: Any) -> dict[str, float]:
    """Percent of made-up comparisons in which a difference is found, by question; see ``found``."""
    rng = np.random.default_rng(seed)
    signs = [found(rng, **of_cell) for _ in range(trials)]
    return {question: 100 * float(np.mean([one[question] != 0 for one in signs])) for question in QUESTIONS}


def detectable(pairs: int, spread: float, trials: int, power: float = 90.0) -> float:
    """Smallest gain in median latency, in milliseconds, that is found in ``power`` percent of the comparisons."""
    low, high = 0.0, 120.0
    while high - low > 1.0:
        middle = (low + high) / 2
        share = shares(trials, pairs=pairs, spread=spread, drift=DRIFTS["none"], gain=middle)
        low, high = (low, middle) if share["latency_p50"] >= power else (middle, high)
    return high


def main(arguments: list[str] | None = None) -> None:
    """Simulate every spread, drift and number of pairs, print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="comparisons of each setting; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("verdict_simulation.json"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    rows, machine = [], setting()
    for pairs in PAIRS:
        for spread in SPREADS:
            false = {
                name: shares(options.trials, pairs=pairs, spread=spread, drift=drift) for name, drift in DRIFTS.items()
            }
            rows.append(
                {
                    "pairs": pairs,
                    "spread_ms": spread,
                    "false_percent": false,
                    "detectable_ms": detectable(pairs, spread, options.trials // 5),
                }
            )
            worst = max(max(of_drift.values()) for of_drift in false.values())
            print(
                f"{pairs} pairs, {spread:g} ms: at most {worst:.2f} % false, finds {rows[-1]['detectable_ms']:.0f} ms"
            )
    document = {
        "simulated": "verdict",
        "machine": machine,
        "level": LEVEL,
        "trials": options.trials,
        "latency_ms": LATENCY_MS,
        "rows": rows,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
