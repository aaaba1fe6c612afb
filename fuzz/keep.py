"""Draw one input of the fuzzer again and write it to a file: ``keep.py SURFACE SEED INDEX FILE``."""

import sys
import tempfile
from pathlib import Path

from cases import write_case
from surfaces import make_surface
from worker import generator

if __name__ == "__main__":
    name, seed, index, file = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        surface = make_surface(name, Path(folder))
        write_case(Path(file), surface.draw(generator(int(seed), int(index))))
        surface.close()
