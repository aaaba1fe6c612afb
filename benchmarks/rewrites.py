"""What each rewriting of the graph for OpenVINO brings: none, all, and all but one, timed in turn in one process.

    python benchmarks/rewrites.py [--models BUNDLE ...] [--precision auto] [--rounds 30]

Frames are of 1280x720. ``openvino_graph.py`` says what each rewriting does.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from engines import computed_precision
from setting import HD, isolated, street
from tqdm import tqdm

from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle, shipped_bundles
from seg_node.core.engines import PRECISIONS, create_engine
from seg_node.core.engines.openvino_graph import REWRITES, Rewrite


def variants() -> Iterator[tuple[str, Sequence[Rewrite]]]:
    """By name: no rewriting, all, and all but each one."""
    yield "none", ()
    yield "all", REWRITES
    for left_out in REWRITES:
        name = left_out.__name__.strip("_").replace("_", " ")
        yield f"all but {name}", [one for one in REWRITES if one is not left_out]


def measure(model: str, precision: str, rounds: int, size: tuple[int, int] = HD) -> dict:
    """Time all variants of a bundle on frames of one size in a fresh process.

    Returns:
        ``model``; ``precision``; ``times``, milliseconds of every inference by the variant's name; ``agreement``, the
        percent of pixels to which all rewritings together give the category that none gives.
    """
    return isolated(_measure, model, precision, rounds, size)


def _measure(model: str, precision: str, rounds: int, size: tuple[int, int]) -> dict:
    engine = create_engine(load_bundle(model), "openvino", precision=precision)
    requests = {
        name: engine.compiled(size, rewrites=rewrites).create_infer_request()
        for name, rewrites in tqdm(list(variants()), f"compiling {model}", leave=False)
    }
    frames = [decode(frame) for frame in street(size, 10).frames]
    times: dict[str, list[float]] = defaultdict(list)
    equal = []
    for i in tqdm(range(-2, rounds), f"timing {model}", leave=False):
        masks = {}
        for name, request in requests.items():
            began = time.perf_counter()
            request.infer([frames[i % len(frames)]], share_inputs=True)
            if i >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
            masks[name] = request.get_output_tensor(0).data.copy()
        equal.append((masks["all"] == masks["none"]).mean())
    return {
        "model": engine.bundle.name,
        "precision": computed_precision(engine.name, engine.precision),
        "times": dict(times),
        "agreement": 100 * float(np.mean(equal)),
    }


def text(found: dict) -> str:
    """What was measured, for people."""
    medians = {name: float(np.median(times)) for name, times in found["times"].items()}
    lines = [f"{found['model']}, {found['precision']}: {found['agreement']:.3f} % of the pixels as without rewriting"]
    lines += [f"  {took:6.1f} ms, {took / medians['all']:.3f} of all  {name}" for name, took in medians.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: all")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, help="inferences of each, default: %(default)s")
    options = parser.parse_args()
    for bundle in options.models:
        print(text(measure(bundle, options.precision, options.rounds)))
