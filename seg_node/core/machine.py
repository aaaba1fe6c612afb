"""What this runs on, for reports and manifests."""

import os
import platform
import time
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor and system that this runs on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        model = next(names, model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "system": platform.platform()}


def instructions() -> list[str]:
    """Extensions of the processor's instruction set, by the names that Linux has for them; none on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return []
    lines = cpuinfo.read_text().splitlines()
    return next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])


def has_fast_int8() -> bool:
    """Whether the processor multiplies int8 faster than float32.

    By sums of four products in one instruction (VNNI, AMX, ARM's dot products), or of two (AVX2).
    """
    return not {"avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp"}.isdisjoint(instructions())


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
