"""Processor, memory and GPU that a process uses."""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from seg_node.rig.frames import UsageSample

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessUsage:
    """Samples one process of this machine by ``/proc``, and NVIDIA GPUs where there are any.

    Args:
        pid: of the process; its children are not counted.
    """

    def __init__(self, pid: int):
        self._pid = pid
        self._gpu = _gpu_reader(pid)

    def sample(self) -> UsageSample | None:
        """Measure now; None once the process has ended."""
        try:
            # The name, in parentheses, may hold anything; fields are counted after it. See proc(5).
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return None
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        return UsageSample(time.monotonic_ns(), cpu, pages * _PAGE, *self._gpu())


Gpu = tuple[float | None, int | None]
"""Busiest GPU in percent, and bytes that the process holds on all of them."""


def _gpu_reader(pid: int) -> Callable[[], Gpu]:
    if importlib.util.find_spec("pynvml"):
        import pynvml

        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            handles = []
        if handles:
            return lambda: _by_nvml(pynvml, handles, pid)
    if shutil.which("nvidia-smi"):
        return lambda: _by_nvidia_smi(pid)
    return lambda: (None, None)


def _by_nvml(nvml, handles: list, pid: int) -> Gpu:
    try:
        percent = max(nvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles)
        held = [p for handle in handles for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid == pid]
    except nvml.NVMLError:
        return None, None
    return float(percent), sum(process.usedGpuMemory or 0 for process in held)


def _by_nvidia_smi(pid: int) -> Gpu:
    percent = _query("--query-gpu=utilization.gpu")
    if not percent:
        return None, None
    held = [row.split(",") for row in _query("--query-compute-apps=pid,used_memory")]
    mebibytes = sum(int(row[1]) for row in held if row[0].strip() == str(pid) and row[1].strip().isdigit())
    return max(float(value) for value in percent), mebibytes * 2**20


def _query(what: str) -> list[str]:
    command = ["nvidia-smi", what, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    # Without a working driver it prints its complaint and fails.
    return [line for line in answer.stdout.splitlines() if line.strip()] if answer.returncode == 0 else []
