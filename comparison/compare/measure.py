"""Measures a case: prepares its contenders, checks their outputs, and times them in turns."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compare.cases import Case, Elem
from compare.contenders import Computes, Contender, contenders
from compare.process import Gone, Process, Refused
from compare.stats import ratio, spread, takes_part
from compare.tensors import Tensors

# An output that is further from the reference is wrong, and is not timed: by the type of outputs. Where all
# outputs are below 1, as of many keys they are, the limit is as much smaller as the largest of them.
MAX_ERROR: dict[Elem, float] = {"f32": 1e-3, "f16": 3e-3, "bf16": 2e-2}
# Of the vector sum.
MAX_ERROR_OF_SUM = 1e-3
# A sample is as many calls as take this long.
SAMPLE_SECONDS = 0.02
# A call that is shorter is preceded by one that is not timed: others were here since the last.
WARM_SECONDS = 0.2
# Fewer samples than this have no quartiles to speak of; calls that are slow have to do with less.
MIN_SAMPLES = 5
MIN_SAMPLES_SLOW = 3
SLOW_SECONDS = 2.0
# Runs of which the best is the peak of a round.
PEAK_RUNS = 8


@dataclass(frozen=True)
class Effort:
    """How much is sampled."""

    # Rounds, in each of which each contender is sampled once.
    rounds: int
    # Seconds per contender and case: who is slower takes part in fewer rounds.
    seconds: float


@dataclass
class Entry:
    """A contender in a case, from its preparation to its times."""

    contender: Contender
    way: str = ""
    detail: str = ""
    # Why it was not timed.
    reason: str | None = None
    status: str = "timed"
    max_error: float | None = None
    compile_seconds: float | None = None
    # Seconds of one call, roughly.
    estimate: float = math.inf
    # Other ways, with their rough times or why they failed.
    others: dict[str, str] = field(default_factory=dict)
    # Seconds per call by round.
    times: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """What tells the error of an output, and what it may be."""

    error: Callable[[Path], float]
    most: float


class Bench:
    """The processes of a run."""

    def __init__(
        self, processes: dict[str, Process], absent: dict[str, str], lanes: int, pause: float
    ) -> None:
        self.processes = processes
        # Libraries that are not here, with reasons.
        self.absent = absent
        self.lanes = lanes
        # Seconds to let the threads of the last contender fall asleep.
        self.pause = pause

    def measure(self, case: Case, effort: Effort) -> dict[str, Any]:
        """All there is to say of a case, ready for JSON."""
        with tempfile.TemporaryDirectory(prefix="rhumb-bench-") as name:
            folder = Path(name)
            tensors = Tensors(case)
            tensors.write(folder)
            loaded = self._load(case, folder)
            entries = [Entry(contender) for contender in contenders(case, self.lanes)]
            judges = {what: _judge(what, tensors) for what in {e.contender.computes for e in entries}}
            for entry in entries:
                self._prepare(entry, loaded, folder, judges[entry.contender.computes])
        rhumb = entries[0]
        peaks: dict[str, dict[int, float]] = {}
        if rhumb.status == "timed":
            peaks = self._rounds(case, [entry for entry in entries if entry.status == "timed"], effort)
        for process in self.processes.values():
            self._forget(process, entries)
        return _result(
            case, entries, {bits: spread(list(rates.values())).median for bits, rates in peaks.items()}
        )

    def _load(self, case: Case, folder: Path) -> dict[str, str]:
        """Hands tensors to the processes; gives the reasons of those that could not take them.

        A process that ended in an earlier case is started again: what was too much there may do here.
        """
        refused = {}
        for name, process in self.processes.items():
            try:
                try:
                    process.ask("case", case=case.spec(), folder=str(folder))
                except Gone:
                    process.start()
                    process.ask("case", case=case.spec(), folder=str(folder))
            except (Refused, Gone) as error:
                refused[name] = str(error)
        return refused

    def _prepare(self, entry: Entry, refused: dict[str, str], folder: Path, judge: Judge) -> None:
        """Tries all ways of a contender, and keeps the fastest that is right."""
        contender = entry.contender
        if contender.library in self.absent:
            entry.status, entry.reason = "absent", self.absent[contender.library]
            return
        if contender.process in refused:
            entry.status, entry.reason = "failed", refused[contender.process]
            return
        process = self.processes[contender.process]
        path = folder / "out.f32"
        problems: list[tuple[str, str, float | None]] = []
        for way in contender.ways:
            try:
                prepared = process.ask("prepare", contender=way)
                estimate = process.ask("output", contender=way, path=str(path))["seconds"]
                error = judge.error(path)
                if error > judge.most:
                    reason = (
                        f"its output deviates from the reference by {error:.2g}, more than {judge.most:.2g}"
                    )
                    problems.append(("disagrees", f"{way}: {reason}", error))
                    entry.others[way] = reason
                    self._ask_quietly(process, "drop", contender=way)
                    continue
                if estimate < SLOW_SECONDS:
                    # The first call had caches to fill and memory to get.
                    calls = max(2, min(1000, int(SAMPLE_SECONDS / estimate)))
                    estimate = process.ask("time", contender=way, warm=1, calls=calls)["seconds"]
            except (Refused, Gone, ValueError, OSError) as problem:
                problems.append(("failed", f"{way}: {_first_line(problem)}", None))
                entry.others[way] = _first_line(problem)
                self._ask_quietly(process, "drop", contender=way)
                continue
            slower = way
            if estimate < entry.estimate:
                slower = entry.way
                entry.others |= {entry.way: f"about {entry.estimate * 1e3:.3g} ms"} if entry.way else {}
                entry.way, entry.detail, entry.estimate = way, prepared["detail"], estimate
                entry.compile_seconds, entry.max_error = prepared["compile_seconds"], error
            else:
                entry.others[way] = f"about {estimate * 1e3:.3g} ms"
            if slower:
                self._ask_quietly(process, "drop", contender=slower)
        if not entry.way:
            disagrees = [problem for problem in problems if problem[0] == "disagrees"]
            entry.status, _, entry.max_error = (disagrees or problems)[0]
            entry.reason = "; ".join(text for _, text, _ in problems)

    def _rounds(self, case: Case, entries: list[Entry], effort: Effort) -> dict[str, dict[int, float]]:
        """Samples each contender once in a round, in an order of its own; gives peaks by width and round."""
        plans = {entry.contender.id: _plan(entry, effort) for entry in entries}
        order = random.Random(case.id)
        peaks: dict[str, dict[int, float]] = {}
        for index in range(effort.rounds):
            turns: list[Entry | None] = [None, *entries]
            order.shuffle(turns)
            for entry in turns:
                if self.pause:
                    time.sleep(self.pause)
                if entry is None:
                    for bits, rate in self.processes["worker"].ask("peak", runs=PEAK_RUNS)["gflops"].items():
                        peaks.setdefault(bits, {})[index] = rate
                    continue
                warm, calls, samples = plans[entry.contender.id]
                if entry.status != "timed" or not takes_part(index, effort.rounds, samples):
                    continue
                process = self.processes[entry.contender.process]
                try:
                    answer = process.ask("time", contender=entry.way, warm=warm, calls=calls)
                except (Refused, Gone) as problem:
                    entry.status, entry.reason = "failed", _first_line(problem)
                    continue
                entry.times[index] = answer["seconds"]
        return peaks

    def _forget(self, process: Process, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.way and self.processes.get(entry.contender.process) is process:
                self._ask_quietly(process, "drop", contender=entry.way)

    @staticmethod
    def _ask_quietly(process: Process, op: str, **fields: Any) -> None:
        """For requests whose failure the next one meets as well."""
        with suppress(Refused, Gone):
            process.ask(op, **fields)


def _judge(computes: Computes, tensors: Tensors) -> Judge:
    """What tells the error of an output, once its reference is computed."""
    if computes == "sum":
        total = tensors.sum()
        return Judge(lambda path: tensors.error_of_sum(path, total), MAX_ERROR_OF_SUM)
    case = tensors.case
    wanted = {"plain": case.plain(), "alibi": case.with_alibi()}.get(computes, case)
    reference = tensors.reference(wanted, "channel" if computes == "channels" else "token")
    elem: Elem = "f32" if computes == "f32" else case.elem
    most = MAX_ERROR[elem] * min(1.0, float(np.abs(reference).max()))
    return Judge(lambda path: tensors.error(path, reference), most)


def _plan(entry: Entry, effort: Effort) -> tuple[int, int, int]:
    """Untimed calls, timed calls, and samples of a contender."""
    calls = max(1, math.ceil(SAMPLE_SECONDS / entry.estimate))
    warm = int(entry.estimate < WARM_SECONDS)
    cost = entry.estimate * (calls + warm)
    least = MIN_SAMPLES if entry.estimate < SLOW_SECONDS else MIN_SAMPLES_SLOW
    return warm, calls, min(effort.rounds, max(least, int(effort.seconds / cost)))


def _result(case: Case, entries: list[Entry], peaks: dict[str, float]) -> dict[str, Any]:
    rhumb = entries[0]
    limit = next((entry for entry in entries if entry.contender.computes == "sum"), None)
    rows = []
    for entry in entries:
        contender = entry.contender
        row: dict[str, Any] = {
            "id": contender.id,
            "label": contender.label,
            "library": contender.library,
            "computes": contender.computes,
            "peer": contender.is_peer,
            "status": entry.status,
            "reason": entry.reason,
            "way": entry.way,
            "detail": entry.detail,
            "other_ways": entry.others,
            "max_error": entry.max_error,
            "compile_seconds": entry.compile_seconds,
        }
        if entry.status == "timed" and not entry.times:
            row |= {"status": "failed", "reason": "rhumb was not timed, and there is nothing to compare with"}
        elif entry.status == "timed":
            row |= {
                "seconds_by_round": {str(index): seconds for index, seconds in entry.times.items()},
                "seconds": spread(list(entry.times.values())).asdict(),
                # How many times as long as rhumb it takes.
                "ratio": ratio(entry.times, rhumb.times).asdict() if rhumb.times else None,
            }
            row |= _of_sum(case, entry, limit, peaks) if case.decodes else _of_peak(case, entry, peaks)
        rows.append(row)
    return {
        "case": case.spec(),
        "flops": case.flops,
        "kv_bytes": case.kv_bytes,
        "peak_gflops": peaks,
        "contenders": rows,
    }


def _of_peak(case: Case, entry: Entry, peaks: dict[str, float]) -> dict[str, Any]:
    """The rate in operations, and its share of the peak at the width of the contender's vectors."""
    bits = entry.contender.bits
    rate = case.flops / spread(list(entry.times.values())).median / 1e9
    peak = peaks.get(str(bits) if bits else max(peaks, key=int, default=""))
    return {"gflops": rate, "peak_share": rate / peak if peak else None}


def _of_sum(case: Case, entry: Entry, limit: Entry | None, peaks: dict[str, float]) -> dict[str, Any]:
    """The rate in bytes of keys and values, its share of the vector sum's, and operations' of the peak."""
    # A plain form reads keys ahead of a window too, and single precision more bytes of each.
    seen = {"plain": case.plain(), "f32": case.in_f32()}.get(entry.contender.computes, case)
    rate = seen.kv_bytes / spread(list(entry.times.values())).median / 1e9
    known = limit is not None and bool(limit.times) and seen.kv_bytes == case.kv_bytes
    share = ratio(limit.times, entry.times) if limit is not None and known else None
    return {
        "gbytes_per_second": rate,
        "sum_share": share.asdict() if share else None,
        "peak_share": None
        if entry.contender.computes == "sum"
        else _of_peak(case, entry, peaks)["peak_share"],
    }


def _first_line(problem: Exception) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__
