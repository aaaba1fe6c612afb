"""Coverage-guided fuzzing with atheris, where it is installed: ``guided.py SURFACE CORPUS_FOLDER [-runs=N ...]``.

What follows the surface's name goes to libFuzzer. The bytes that it evolves are the random numbers from which a surface
draws its input, so the inputs are those of ``fuzz.py``, led by the branches of ``seg_node`` that they reach.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris


class Evolved(Random):
    """Random numbers read from bytes; zero once they are used up."""

    def __init__(self, data: bytes):
        super().__init__(0)
        self._data = data

    def getrandbits(self, k: int) -> int:
        size = -(-k // 8)
        taken, self._data = self._data[:size], self._data[size:]
        return int.from_bytes(taken, "little") % (1 << k)

    def random(self) -> float:
        return self.getrandbits(53) / 2**53


def main() -> None:
    """Run until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["seg_node"]):
        from surfaces import make_surface

        surface = make_surface(sys.argv[1], Path(tempfile.mkdtemp(prefix="guided_")))
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: surface.feed(surface.draw(Evolved(data))))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
