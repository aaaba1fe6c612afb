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


def has_native_int8() -> bool:
    """Whether the processor multiplies and sums int8 in one instruction: VNNI or AMX, or ARM's dot products."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return not {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}.isdisjoint(flags.split())


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
