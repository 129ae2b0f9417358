"""The machine that a report is of."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

# The extensions that change what code runs here.
FLAGS = [
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "neon",
    "asimd",
    "sve",
]


def describe(cpus: list[int] | None, threads: int) -> dict[str, Any]:
    """The processor and the system; `cpus` are those the processes are pinned to."""
    fields = _cpuinfo()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cpu_model": fields.get("model"),
        "flags": [flag for flag in FLAGS if flag in flags],
        "processors": os.cpu_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "threads": threads,
        "pinned_to": cpus,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "rustc": _version("rustc"),
        "compiler_of_torch": _version("g++"),
        "rhumb_revision": _revision(),
    }


def pin(threads: int, cpus: list[int] | None) -> list[int] | None:
    """Keeps this process and those it starts on the processors asked for, or the last ones allowed."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = cpus or sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, chosen)
    return chosen


def locked_versions(libraries: list[str]) -> dict[str, str]:
    """The versions of what is built into the worker, as its lock file has them."""
    lock = tomllib.loads((Path(__file__).parents[1] / "worker" / "Cargo.lock").read_text())
    packages = {package["name"]: package["version"] for package in lock["package"]}
    names = {"candle": "candle-core"}
    return {library: packages[names.get(library, library)] for library in libraries}


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(program: str) -> str | None:
    return _first_line_of([program, "--version"])


def _revision() -> str | None:
    here = Path(__file__).parent
    revision = _first_line_of(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"])
    changed = _first_line_of(["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"])
    return f"{revision} with changes" if revision and changed else revision


def _first_line_of(command: list[str]) -> str | None:
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else None
