"""The picture of a report: bars of time relative to rhumb, a panel per group."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from compare.cases import GROUPS

# Contenders in the order of their bars, with colours that tell them apart in print and for most eyes.
BARS = {
    "sum": ("vector sum of keys and values: the limit of decode", "#969696"),
    "rhumb-f32": ("rhumb in f32", "#d9d9d9"),
    "rhumb-f32-queries": ("rhumb, queries in f32", "#bdbdbd"),
    "torch-sdpa": ("PyTorch SDPA (in cases with a scheme: without it)", "#9ecae1"),
    "torch-packed": ("PyTorch SDPA, packed", "#6baed6"),
    "torch-mask": ("PyTorch SDPA, ALiBi mask tensor", "#3182bd"),
    "torch-rope": ("PyTorch RoPE + SDPA, eager", "#3182bd"),
    "torch-rope-compiled": ("PyTorch RoPE + SDPA, compiled", "#08306b"),
    "torch-flex": ("PyTorch FlexAttention, compiled", "#756bb1"),
    "onnxruntime": ("ONNX Runtime", "#31a354"),
    "candle": ("candle", "#e6550d"),
}


def draw(results: list[dict[str, Any]], title: str, paths: list[Path]) -> bool:
    """Draws all cases that have times, in the format of each path's suffix; false where there are none."""
    groups = {group: [r for r in results if r["case"]["group"] == group and _bars(r)] for group in GROUPS}
    groups = {group: found for group, found in groups.items() if found}
    if not groups:
        return False
    widths = {group: sum(len(_bars(result)) + 1.5 for result in found) for group, found in groups.items()}
    figure, panels = plt.subplots(
        len(groups),
        1,
        figsize=(max(9.0, 0.27 * max(widths.values())), 3.3 * len(groups) + 1.2),
        squeeze=False,
    )
    for axes, (group, found) in zip(panels[:, 0], groups.items(), strict=True):
        _panel(axes, group, found, max(widths.values()))
    used = {bar for found in groups.values() for result in found for bar in _bars(result)}
    handles = {}
    for bar, (label, colour) in BARS.items():
        if bar in used:
            handles[label] = plt.Rectangle((0, 0), 1, 1, color=colour)
    figure.suptitle(title, fontsize=12)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="lower center",
        ncols=min(3, len(handles)),
        frameon=False,
        fontsize=9,
    )
    lines = math.ceil(len(handles) / 3)
    height = figure.get_figheight()
    figure.tight_layout(rect=(0, 0.28 * (lines + 0.5) / height, 1, 1 - 0.1 / height))
    for path in paths:
        figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _bars(result: dict[str, Any]) -> dict[str, float]:
    """Times relative to rhumb of those that were timed."""
    rows = {row["id"]: row for row in result["contenders"] if row["status"] == "timed" and row["ratio"]}
    # The other schemes' mask in a case of RoPE is for a check alone.
    return {id: rows[id]["ratio"]["median"] for id in BARS if id in rows and rows[id]["computes"] != "alibi"}


def _panel(axes: Axes, group: str, results: list[dict[str, Any]], width: float) -> None:
    at, ticks, highest, lowest = 0.0, [], 1.0, 1.0
    for result in results:
        bars = _bars(result)
        rows = {row["id"]: row for row in result["contenders"]}
        for index, (id, value) in enumerate(bars.items()):
            spread = rows[id]["ratio"]
            error = [[max(0.0, value - spread["low"])], [max(0.0, spread["high"] - value)]]
            # Bars start at 1, rhumb's own time: those below are faster than rhumb.
            axes.bar(
                at + index, value - 1, bottom=1, width=0.9, color=BARS[id][1], yerr=error, ecolor="#00000066"
            )
            axes.annotate(
                f"{value:.2f}" if value < 9.95 else f"{value:.0f}",
                (at + index, max(value, spread["high"]) if value >= 1 else min(value, spread["low"])),
                xytext=(0, 2 if value >= 1 else -2),
                textcoords="offset points",
                ha="center",
                va="bottom" if value >= 1 else "top",
                fontsize=7,
            )
            highest, lowest = max(highest, value), min(lowest, value)
        ticks.append((at + (len(bars) - 1) / 2, result["case"]["label"]))
        at += len(bars) + 1.5
    axes.set_yscale("log", base=2)
    axes.set_ylim(min(0.7, lowest / 1.6), max(2.0, highest * 1.7))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xlim(-1, max(width - 1.5, at - 1.5))
    axes.set_xticks([place for place, _ in ticks], [_wrapped(label) for _, label in ticks], fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(group, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("time / rhumb's", fontsize=8)


def _wrapped(label: str) -> str:
    """A label on lines of its parts, two to a line."""
    parts = label.split(", ")
    return "\n".join(", ".join(parts[start : start + 2]) for start in range(0, len(parts), 2))
