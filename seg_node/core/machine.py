"""What this runs on, for reports and manifests."""

import os
import platform
import time
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor and system that this runs on."""
    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "system": platform.platform()}


def instructions() -> list[str]:
    """Extensions of the processor's instruction set, by the names that Linux has for them; none on other systems."""
    return _cpuinfo("flags", "Features").split()


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
