"""What this runs on, for reports and manifests."""

import datetime
import functools
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

_TELLING = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Instructions that decide how fast a network runs."""
_HELD_BACK = {
    "AVX2": {"avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"},
    "AVX2_VNNI": {"avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"},
    "AVX512_CORE": {"avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"},
    "AVX512_CORE_VNNI": {"avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"},
    "AVX512_CORE_BF16": {"avx512_fp16", "amx_int8", "amx_bf16"},
    "AVX512_CORE_FP16": {"amx_int8", "amx_bf16"},
}
"""Instructions that OpenVINO and torch do not use under each value of ``ONEDNN_MAX_CPU_ISA`` (oneDNN developer guide,
"CPU Dispatcher Control")."""
_SIDE = 1024
"""Rows and columns of the matrices of ``gflops``."""


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor and system that this runs on, with those of its instructions that matter here."""
    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    present = set(instructions())
    return {
        "cpu": model,
        "cores": usable_cores(),
        "system": platform.platform(),
        "instructions": [name for name in _TELLING if name in present],
    }


def setting(gpu: str = "") -> dict[str, Any]:
    """What every result file says of where its figures come from; a tool calls this while it measures.

    Args:
        gpu: name of the accelerator that computed, empty where the processor did.

    Returns:
        ``machine()``; ``gflops``, the speed of the machine while it measured; ``measured``, the time, ISO 8601, UTC;
        ``commit`` and ``dirty`` of the code; ``gpu`` where there is one.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return machine() | {"gflops": gflops(), "measured": now} | commit() | ({"gpu": gpu} if gpu else {})


def gflops(repetitions: int = 5) -> float:
    """Billions of operations per second of a float32 product of two small matrices, the best of a few.

    One processor's name is sold at many speeds, and a virtual machine shares it with others: this is what there was.
    """
    a = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), np.float32)
    a @ a
    times = []
    for _ in range(repetitions):
        since = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - since)
    return round(2 * _SIDE**3 / min(times) / 1e9, 1)


def commit() -> dict[str, Any]:
    """``commit`` of the checkout that this code lies in, and whether it is ``dirty``; both None where it is none.

    Files that git does not track do not count: results are among them.
    """
    folder = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(folder)]
        run = functools.partial(subprocess.run, capture_output=True, text=True, check=True, timeout=10)
        head = run([*git, "rev-parse", "HEAD"]).stdout.strip()
        # An installed copy may lie below a repository that has nothing to do with it.
        run([*git, "ls-files", "--error-unmatch", Path(__file__).name])
        changed = run([*git, "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changed)}


def instructions() -> list[str]:
    """Extensions of the processor's instruction set, by the names that Linux has for them; none on other systems.

    Those that ``ONEDNN_MAX_CPU_ISA`` holds back are left out: what was measured or compiled without them is not of a
    processor that has them.
    """
    held_back = _HELD_BACK.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper(), set())
    return [name for name in _cpuinfo("flags", "Features").split() if name not in held_back]


def _cpuinfo(*names: str) -> str:
    """Value of the first of these names that Linux knows of the first processor; empty without one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


def has_fast_int8() -> bool:
    """Whether the processor multiplies int8 faster than float32.

    It does where one instruction sums two products (AVX2, which all with VNNI or AMX have, too) or four (ARM's dot
    products).
    """
    return not {"avx2", "asimddp"}.isdisjoint(instructions())


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32.

    It does with AMX, or with AMD's instructions for AVX-512. Intel's take twice as long as float32 (an Emerald Rapids
    on a virtual machine that hides AMX: a product of matrices at 168 GFLOP/s against 328; an EPYC: 432 against 205).
    """
    names = instructions()
    return "amx_bf16" in names or ("avx512_bf16" in names and _cpuinfo("vendor_id") == "AuthenticAMD")


def busy_cores(seconds: float = 1.0) -> float | None:
    """Processor cores that all programs together use, measured over a while; None where the system does not tell."""
    if not Path("/proc/stat").is_file():
        return None
    total, idle = _ticks()
    time.sleep(seconds)
    total_after, idle_after = _ticks()
    passed = max(total_after - total, 1)
    return os.cpu_count() * (passed - (idle_after - idle)) / passed


def _ticks() -> tuple[int, int]:
    """All ticks of all cores since the start of the system, and those without work (proc(5), ``/proc/stat``)."""
    # user nice system idle iowait irq softirq steal; guest times are contained in user and nice.
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]
