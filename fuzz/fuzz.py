"""Feed damaged inputs to every way in, and report what does not end as documented.

    python fuzz/fuzz.py --surface image --inputs 100000 --seed 1

Each input is accepted with a valid result, or refused with the documented error. Anything else is a finding: another
error, a crash of the process, an input that takes longer than a limit, memory that grows. Inputs that were found are
written to files; in ``corpus`` they become regression tests.
"""

import argparse
import json
import mmap
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from surfaces import ACCEPTED, SURFACES
from tqdm import tqdm
from worker import IDLE, STATE

from seg_node.core.machine import setting

_WORKER = Path(__file__).with_name("worker.py")
_KEEP = Path(__file__).with_name("keep.py")
_BATCH = 250
_MOST_DEATHS = 5
"""Processes of a surface that may die before it is given up."""

GROWTH_LIMIT = 32.0
"""MiB by which the memory may grow over the second half of the inputs; what fragmentation and caches take is less."""


@dataclass
class Finding:
    """An input that did not end as documented."""

    index: int
    kind: str
    """Class of the error, ``crash`` or ``hang``."""
    detail: str
    file: str = ""
    """The input."""


@dataclass
class Result:
    """What became of the inputs of one surface."""

    surface: str
    inputs: int = 0
    """That ended as documented."""
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By class of the refusal."""
    findings: list[Finding] = field(default_factory=list)
    slowest_ms: float = 0.0
    slowest_index: int = 0
    seconds: float = 0.0
    growth_mib: float = 0.0
    """Of the memory over the second half of the inputs."""

    @property
    def sound(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.findings and self.growth_mib <= GROWTH_LIMIT


def fuzz(surface: str, inputs: int, seed: int, limit: float, out: Path, progress: Callable[[int], object]) -> Result:
    """Feed inputs to one surface.

    Args:
        surface: one of ``SURFACES``.
        inputs: how many.
        seed: of all of them.
        limit: seconds that one input may take.
        out: folder for inputs that were found.
        progress: called with the number of inputs that were done since the last call.
    """
    result, ends, started = Result(surface), Counter(), time.monotonic()
    done, deaths = 0, set()
    while done < inputs and len(deaths) < _MOST_DEATHS:
        with tempfile.TemporaryDirectory(prefix=f"fuzz_{surface}_", dir=_scratch()) as folder:
            run = _Run(surface, Path(folder), seed, done, inputs, deaths)
            memory = []
            while (batch := run.next_batch(limit)) is not None:
                progress(batch["stop"] - done)
                done = batch["stop"]
                ends.update(batch["ends"])
                result.findings += [Finding(**found) for found in batch["findings"]]
                result.slowest_ms, result.slowest_index = max(
                    (result.slowest_ms, result.slowest_index), tuple(batch["slowest"])
                )
                memory.append(batch["rss"])
            result.growth_mib = max(result.growth_mib, _growth(memory))
            if run.death is not None:
                if run.death.index in deaths:
                    raise RuntimeError(f"{surface}: the process ends before its first input: {run.death.detail}")
                result.findings.append(run.death)
                deaths.add(run.death.index)
    result.accepted = ends.pop(ACCEPTED, 0)
    result.refused = dict(sorted(ends.items()))
    result.inputs = result.accepted + sum(ends.values())
    result.seconds = time.monotonic() - started
    if result.findings:
        _keep(result, seed, out)
    return result


class _Run:
    """A process that feeds inputs until it has done so, or dies."""

    def __init__(self, surface: str, folder: Path, seed: int, start: int, stop: int, skip: set[int]):
        self.death: Finding | None = None
        self._folder = folder
        state = folder / "state"
        state.write_bytes(STATE.pack(IDLE, 0.0))
        with state.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), STATE.size)
        command = [sys.executable, _WORKER, surface, folder, f"--seed={seed}", f"--start={start}", f"--stop={stop}"]
        command += [f"--batch={_BATCH}", "--skip", *map(str, sorted(skip))]
        self._errors = (folder / "stderr").open("w+b")
        self._process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=self._errors, env=environment()
        )
        self._lines = b""

    def next_batch(self, limit: float) -> dict | None:
        """The next report; None where the process has ended, with ``death`` if it had not done all."""
        output = self._process.stdout
        while b"\n" not in self._lines:
            if select.select([output], [], [], 0.5)[0]:
                if not (data := os.read(output.fileno(), 2**16)):
                    return self._ended()
                self._lines += data
                continue
            index, since = STATE.unpack(self._state[:])
            if index != IDLE and time.monotonic() - since > limit:
                self._process.kill()
                self._process.wait()
                self.death = Finding(index, "hang", f"no end after {limit:g} s")
                return None
            # Libraries of C write a line for each damaged image.
            if self._errors.tell() > 2**24:
                self._errors.truncate(0)
        line, _, self._lines = self._lines.partition(b"\n")
        return json.loads(line)

    def _ended(self) -> None:
        status = self._process.wait()
        if status:
            index, _ = STATE.unpack(self._state[:])
            cause = signal.Signals(-status).name if status < 0 else f"status {status}"
            trace = (self._folder / "trace").read_text() if (self._folder / "trace").exists() else ""
            self._errors.seek(0)
            last = self._errors.read()[-2000:].decode(errors="replace")
            self.death = Finding(index, "crash", f"{cause}: {trace[:1500] or last}")


def _growth(memory: list[int]) -> float:
    """MiB from the middle of the readings to their end; medians, for single ones jump."""
    if len(memory) < 20:
        return 0.0
    tenth = len(memory) // 10
    middle = memory[len(memory) // 2 : len(memory) // 2 + tenth]
    return (median(memory[-tenth:]) - median(middle)) / 2**20


def _keep(result: Result, seed: int, out: Path) -> None:
    """Write the inputs of findings, the first of each kind and beginning of the detail."""
    kept: dict[tuple[str, str], Finding] = {}
    for finding in result.findings:
        kept.setdefault((finding.kind, finding.detail[:60]), finding)
    for finding in kept.values():
        finding.file = str(out / result.surface / f"{finding.kind}_{finding.index}.json")
        # In a process of its own, because the libraries of some surfaces want one.
        command = [sys.executable, _KEEP, result.surface, str(seed), str(finding.index), finding.file]
        subprocess.run(command, check=True, env=environment(), stderr=subprocess.DEVNULL)


def _scratch() -> str | None:
    """Memory for files, where there is some."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def environment() -> dict[str, str]:
    """Of the processes: they find the package without an installation, and no node of theirs leaves the machine."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"OPENCV_LOG_LEVEL": "SILENT", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return os.environ | quiet | {"PYTHONPATH": path}


def table(results: list[Result]) -> str:
    """For people."""
    heads = ("surface", "inputs", "accepted", "refused", "errors", "crashes", "hangs", "slowest ms", "growth MiB", "s")
    rows = [heads]
    for result in results:
        kinds = Counter(found.kind for found in result.findings)
        crashes, hangs = kinds.pop("crash", 0), kinds.pop("hang", 0)
        rows.append(
            (
                result.surface,
                *map(str, (result.inputs, result.accepted, sum(result.refused.values()), sum(kinds.values()))),
                *map(str, (crashes, hangs)),
                f"{result.slowest_ms:.1f}",
                f"{result.growth_mib:+.1f}",
                f"{result.seconds:.0f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for result in results:
        lines += [f"{result.surface}: {count} x {name}" for name, count in result.refused.items()]
        lines += [
            f"{result.surface}: FOUND {f.kind}: {f.detail.partition(chr(10))[0]} ({f.file})"
            for f in result.findings
            if f.file
        ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--surface", choices=SURFACES, action="append", help="only this one; may be repeated")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each surface (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="of all inputs (default: 1)")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds that one input may take (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("fuzz_output"), help="folder for report and findings")
    options = parser.parse_args(arguments)
    surfaces = options.surface or list(SURFACES)
    with (
        tqdm(total=len(surfaces) * options.inputs, unit="inputs", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        runs = [
            pool.submit(fuzz, name, options.inputs, options.seed, options.limit, options.out, bar.update)
            for name in surfaces
        ]
        results = [run.result() for run in runs]
    print(table(results))
    options.out.mkdir(parents=True, exist_ok=True)
    report = {
        "seed": options.seed,
        "python": platform.python_version(),
        "machine": setting(),
        "surfaces": [asdict(result) for result in results],
    }
    (options.out / "fuzz.json").write_text(json.dumps(report, indent=1))
    print(f"{options.out / 'fuzz.json'} has all of it")
    return 0 if all(result.sound for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
