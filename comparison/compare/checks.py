"""What the report must let one check: each line with its figures in this run. Standard library only."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from compare.cases import DECODES
from compare.stats import ratio

PEAK_SHARE = 0.65
COMPILE_SECONDS = 0.05
# rhumb's time over the other's, at most.
OF_SDPA_CAUSAL = 0.75
OF_SDPA_MASK = 0.35
OF_FLEX = 0.2
OF_SDPA_NO_MASK = 0.85
OF_SDPA_BF16 = 0.45
OF_OWN_F32 = 0.65
# Its error over PyTorch's, in types of 16 bits at most.
ERROR_OF_TYPES = 2.0
# Time with over time without, at most.
WITH_SCHEME = {"alibi": 1.05, "rope": 1.06}
WITH_SOFTCAP = 1.25
# Where the cost of schemes is checked: long enough for it not to drown in the start of a call.
SCHEME_TOKENS = 2048
# Decode: shares of the vector sum's rate by the number of keys, at least; times over PyTorch's, and over its
# own without a scheme or mask, at most.
OF_SUM = {4096: 0.75, 32768: 0.85}
# Of more queries, whose products bound them before reading does, this share of the peak is as good.
OF_PEAK = {16: 0.7}
OF_PEAK_OR_SUM = 0.85
OF_PACKED = 0.3
OF_UNPACKED = 0.15
WITH_ANY = 1.1
# Decode in other types, over its own in single precision at most: 1.6 times the tokens a second in 16 bits, 2
# times with caches of 8 bits; with AVX2, 1.3 times in 16 bits.
OF_F32 = {"f16": 1 / 1.6, "bf16": 1 / 1.6, "i8": 1 / 2}
OF_F32_AVX2 = 1 / 1.3
# What a processor needs for that.
NEEDS = {"f16": "avx512_bf16", "bf16": "avx512_bf16", "i8": "avx512_vnni"}
NEEDS_AVX2 = ("avx2", "f16c")
# Schemes and masks that this is said of: ALiBi's cost is in the report, and has no limit.
ANY = ("RoPE", "causal mask", "window", "softcap")


@dataclass(frozen=True)
class Check:
    """One line for one case."""

    line: str
    case: str
    # "ratio", "share", "seconds" or "error".
    unit: str
    limit: float
    # "<=", ">=" or "<".
    order: str
    figure: float | None
    # Quartiles, where the figure has them.
    low: float | None = None
    high: float | None = None
    # Why there is no figure, or what it is of.
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the line holds; `None` where it was not measured."""
        if self.figure is None:
            return None
        compare = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}[self.order]
        return compare(self.figure, self.limit)

    def asdict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}


def checks(results: list[dict[str, Any]], flags: Collection[str]) -> list[Check]:
    """All lines for all cases that were run on a processor with these extensions."""
    found: list[Check] = []
    for result in results:
        rows = {row["id"]: row for row in result["contenders"]}
        decodes = result["case"]["group"] in DECODES
        own = (_decode,) if decodes else (_against_torch, _peaks, _schemes)
        for part in (*own, _best_peer, _accuracy, _compile):
            found += part(result["case"], rows)
        found += (_on(check, needs, flags) for check, needs in _types(result["case"], rows))
    return found


def _on(check: Check, needs: Collection[str], flags: Collection[str]) -> Check:
    """A check, without its figure where the processor lacks what the line is about."""
    lacks = [flag for flag in needs if flag not in flags]
    if not lacks:
        return check
    note = f"this processor has no {', '.join(lacks)}"
    return replace(check, figure=None, low=None, high=None, note=note)


def _timed(row: dict[str, Any] | None) -> bool:
    return row is not None and row["status"] == "timed"


def _rounds(row: dict[str, Any]) -> dict[int, float]:
    return {int(index): seconds for index, seconds in row["seconds_by_round"].items()}


def _over(
    line: str, case: dict[str, Any], rows: dict[str, Any], top: str, bottom: str, limit: float
) -> Check:
    """The time of one contender over another's."""
    for id in (top, bottom):
        if not _timed(rows.get(id)):
            reason = rows[id]["reason"] if id in rows else "no such contender"
            return Check(line, case["id"], "ratio", limit, "<=", None, note=f"{id} was not timed: {reason}")
    over = ratio(_rounds(rows[top]), _rounds(rows[bottom]))
    note = f"{rows[top]['label']} / {rows[bottom]['label']}"
    return Check(line, case["id"], "ratio", limit, "<=", over.median, over.low, over.high, note)


def _against_torch(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    if not case["accepted"]:
        return
    if case["elem"] != "f32":
        return
    if case["scheme"] == "none":
        yield _over("no mask, of PyTorch SDPA", case, rows, "rhumb", "torch-sdpa", OF_SDPA_NO_MASK)
        return
    name = {"alibi": "causal + ALiBi", "rope": "causal + RoPE"}[case["scheme"]]
    yield _over(f"{name}, of SDPA causal alone", case, rows, "rhumb", "torch-sdpa", OF_SDPA_CAUSAL)
    yield _over(f"{name}, of SDPA with ALiBi's mask tensor", case, rows, "rhumb", "torch-mask", OF_SDPA_MASK)
    yield _over(f"{name}, of compiled FlexAttention", case, rows, "rhumb", "torch-flex", OF_FLEX)


def _peaks(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    # The peak is that of single precision.
    if not case["accepted"] or case["elem"] != "f32":
        return
    for id, line in (("rhumb", "share of the peak"), ("rhumb-avx2", "AVX2, share of the 256-bit peak")):
        row = rows.get(id)
        # Where AVX2 is all there is, there is one line for both.
        if row is None:
            continue
        share = row["peak_share"] if _timed(row) else None
        note = "" if share is not None else row["reason"] or "the peak is not measured on this machine"
        yield Check(line, case["id"], "share", PEAK_SHARE, ">=", share, note=note)


def _types(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[tuple[Check, Collection[str]]]:
    """Lines about types other than `f32`, each with what a processor needs for it."""
    stored = case["cache"]
    if not case["accepted"] or stored == "f32":
        return
    needs = (NEEDS[stored],)
    if case["group"] not in DECODES:
        yield _over("bf16, of PyTorch SDPA", case, rows, "rhumb", "torch-sdpa", OF_SDPA_BF16), needs
        yield _over("bf16, of rhumb in f32", case, rows, "rhumb", "rhumb-f32", OF_OWN_F32), needs
        return
    yield _over(f"decode, {stored}, of f32", case, rows, "rhumb", "rhumb-f32", OF_F32[stored]), needs
    if stored != "i8" and "rhumb-avx2" in rows:
        line = f"AVX2, decode, {stored}, of f32"
        yield _over(line, case, rows, "rhumb-avx2", "rhumb-avx2-f32", OF_F32_AVX2), NEEDS_AVX2


def _decode(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    if case["accepted"] and case["cache"] == "f32":
        yield _of_sum(case, rows, OF_SUM[case["tokens"]])
        yield _over("decode, of PyTorch SDPA, packed", case, rows, "rhumb", "torch-packed", OF_PACKED)
        yield _over("decode, of PyTorch SDPA, unpacked", case, rows, "rhumb", "torch-sdpa", OF_UNPACKED)
    if case["cache"] == "f32" and case["queries"] in OF_PEAK and case["tokens"] == 4096:
        yield _of_what_bounds(case, rows, OF_PEAK[case["queries"]])
    if case["extra"] in ANY:
        yield _over("decode with a scheme or mask, of none", case, rows, "rhumb", "rhumb-plain", WITH_ANY)


def _of_what_bounds(case: dict[str, Any], rows: dict[str, Any], of_peak: float) -> Check:
    """The share of the peak or of the vector sum's rate, whichever is nearer to what it is to be."""
    line = f"decode of {case['queries']} queries, share of the peak or of the vector sum"
    of_sum = _of_sum(case, rows, OF_PEAK_OR_SUM)
    of_sum = replace(of_sum, line=line, note=of_sum.note or "of the vector sum")
    share = rows["rhumb"].get("peak_share")
    if share is None:
        return of_sum
    found = Check(line, case["id"], "share", of_peak, ">=", share, note="of the peak")
    return min(found, of_sum, key=excess) if of_sum.figure is not None else found


def _of_sum(case: dict[str, Any], rows: dict[str, Any], limit: float) -> Check:
    """The share of the vector sum's rate: its time over rhumb's."""
    line = f"decode of {case['tokens']} keys, share of the vector sum"
    for id in ("rhumb", "sum"):
        if not _timed(rows.get(id)):
            note = f"{id} was not timed: {rows[id]['reason']}"
            return Check(line, case["id"], "share", limit, ">=", None, note=note)
    share = ratio(_rounds(rows["sum"]), _rounds(rows["rhumb"]))
    return Check(line, case["id"], "share", limit, ">=", share.median, share.low, share.high)


def _best_peer(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    line = "no slower than the best peer"
    peers = [row for row in rows.values() if row["peer"] and _timed(row)]
    if not peers:
        yield Check(line, case["id"], "ratio", 1.0, "<=", None, note="no peer was timed")
        return
    best = min(peers, key=lambda row: row["seconds"]["median"])
    yield _over(line, case, rows, "rhumb", best["id"], 1.0)


def _schemes(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    if case["tokens"] != SCHEME_TOKENS:
        return
    if case["softcap"] is not None:
        yield _over("softcap, of no softcap", case, rows, "rhumb", "rhumb-plain", WITH_SOFTCAP)
    elif case["scheme"] != "none":
        name = {"alibi": "ALiBi", "rope": "RoPE"}[case["scheme"]]
        limit = WITH_SCHEME[case["scheme"]]
        yield _over(f"{name}, of no {name}", case, rows, "rhumb", "rhumb-plain", limit)


def _accuracy(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    # PyTorch has no caches of 8 bits.
    if case["cache"] == "i8":
        return
    times = 1.0 if case["elem"] == "f32" else ERROR_OF_TYPES
    line = "largest error, against PyTorch's" if times == 1.0 else f"largest error, {times:g} times PyTorch's"
    # The operations of PyTorch as they come, ahead of what is compiled.
    for id in ("torch-sdpa", "torch-mask", "torch-rope", "torch-flex"):
        row = rows.get(id)
        if row is not None and row["computes"] == "case" and row["max_error"] is not None:
            found = rows["rhumb"]["max_error"]
            note = f"against {row['label']}" if found is not None else rows["rhumb"]["reason"]
            yield Check(line, case["id"], "error", times * row["max_error"], "<=", found, note=note)
            return
    yield Check(line, case["id"], "error", 0.0, "<=", None, note="no output of PyTorch")


def _compile(case: dict[str, Any], rows: dict[str, Any]) -> Iterator[Check]:
    for row in rows.values():
        if row["library"] == "rhumb" and row["compile_seconds"] is not None:
            note = row["label"]
            yield Check(
                "a kernel compiles",
                case["id"],
                "seconds",
                COMPILE_SECONDS,
                "<",
                row["compile_seconds"],
                note=note,
            )


def excess(check: Check) -> float:
    """How far a figure is towards its limit or past it: the worst check of a line has the most."""
    if check.figure is None:
        return float("-inf")
    if check.order == ">=":
        return check.limit / check.figure if check.figure else float("inf")
    return check.figure / check.limit if check.limit else float("inf")
