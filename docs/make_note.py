"""Write the technical note, the slides and the results in README and docs from the result files: ``make note``.

    python docs/make_note.py                  # write everything
    python docs/make_note.py --check          # name what is stale, exit 1 if anything is
    python docs/make_note.py --take FILE ...  # first put results that the tools wrote into docs/results

Templates are ``docs/note/*.md``; what stands in double braces in them is one of ``note.pieces``.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# Run as a script, this file finds its own folder, but not the repository that it belongs to.
sys.path.insert(0, str(REPOSITORY))

from note.documents import stale, write  # noqa: E402
from note.results import load_results, take  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 if something is stale, 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a committed file is stale")
    parser.add_argument(
        "--take",
        nargs="+",
        default=[],
        metavar="FILE",
        help="comparison.json of `compare`, results.json of `study`, log.jsonl of `train`, bench.json of `bench`,"
        " what benchmarks/serve_load.py --out wrote",
    )
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="of the repository; default: this one")
    options = parser.parse_args(arguments)
    try:
        for file in options.take:
            print(f"took {take(Path(file), options.root)}")
        results = load_results(options.root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.check:
        if wrong := stale(options.root, results):
            print(f"stale: {', '.join(wrong)}; run `make note`", file=sys.stderr)
        return int(bool(wrong))
    for path in write(options.root, results):
        print(f"written: {path.relative_to(options.root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
