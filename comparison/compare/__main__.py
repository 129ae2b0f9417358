"""The comparison itself, inside of the environment that `comparison/run.py` made."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compare import host, report
from compare.cases import Case, selected
from compare.checks import checks
from compare.measure import Bench, Effort
from compare.process import Gone, Process, Refused

# More of them fall asleep a while after their work; until then they would disturb the next contender.
PAUSE_SECONDS = 0.02


def main() -> int:
    """Runs the cases and writes the report; 1 if rhumb computed something wrong."""
    arguments = _arguments()
    cases = selected(arguments.quick, arguments.filter)
    if not cases:
        print(f"no case has any of {arguments.filter} in its id; --list shows them all", file=sys.stderr)
        return 2
    out: Path = arguments.out
    logs = out / f"{arguments.name}-logs"
    logs.mkdir(parents=True, exist_ok=True)
    described = host.describe(host.pin(arguments.threads, arguments.cpus), arguments.threads)
    absent = dict(json.loads(arguments.absent))
    bench, versions = _start(arguments, absent, logs)
    effort = Effort(arguments.samples, arguments.seconds)
    whole: dict[str, Any] = {
        "name": arguments.name,
        "started": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "minutes": 0.0,
        "unfinished": "",
        "quick": arguments.quick,
        "host": described,
        "effort": {"rounds": effort.rounds, "seconds": effort.seconds},
        "versions": versions,
        "absent": absent,
        "peak_gflops": {},
        "cases": [],
    }
    start = time.monotonic()
    try:
        for index, case in enumerate(cases):
            print(f"[{index + 1}/{len(cases)}] {case.id}", flush=True)
            result = bench.measure(case, effort)
            whole["cases"].append(result)
            _show(case, result)
            whole["minutes"] = (time.monotonic() - start) / 60
            # What there is survives an end before the end.
            whole["unfinished"] = f"{index + 1} of {len(cases)} cases" if index + 1 < len(cases) else ""
            _write(whole, out, last=index + 1 == len(cases))
    except KeyboardInterrupt:
        whole["unfinished"] = f"interrupted after {len(whole['cases'])} of {len(cases)} cases"
        print(whole["unfinished"], file=sys.stderr)
        _write(whole, out, last=True)
        return 130
    except Gone as error:
        whole["unfinished"] = f"{error}, after {len(whole['cases'])} of {len(cases)} cases"
        print(whole["unfinished"], file=sys.stderr)
        _write(whole, out, last=True)
        return 1
    finally:
        for process in bench.processes.values():
            process.close()
    return 1 if _rhumb_is_wrong(whole) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Started by comparison/run.py, which has the options for users."
    )
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--absent", default="{}", help="JSON: libraries that are not here, with reasons")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", type=lambda text: [int(cpu) for cpu in text.split(",")])
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter", action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    return parser.parse_args()


def _start(arguments: argparse.Namespace, absent: dict[str, str], logs: Path) -> tuple[Bench, dict[str, str]]:
    """Starts all processes; a peer whose process does not start is absent."""
    threads = arguments.threads
    worker = Process("worker", [str(arguments.worker)], threads, logs / "worker.log")
    versions = host.locked_versions(worker.hello["libraries"])
    processes = {"worker": worker}
    if "candle" not in versions:
        absent.setdefault("candle", "the worker was built without it")
    for peer in ("torch", "onnxruntime"):
        if peer in absent:
            continue
        try:
            processes[peer] = Process.python(peer, threads, logs / f"{peer}.log")
            versions |= processes[peer].hello["versions"]
        except (Refused, Gone) as error:
            absent[peer] = f"it does not import: {error}"
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}", flush=True)
    return Bench(processes, absent, worker.hello["lanes"], PAUSE_SECONDS if threads > 1 else 0.0), versions


def _show(case: Case, result: dict[str, Any]) -> None:
    """A case on the terminal."""
    for row in result["contenders"]:
        if row["status"] == "timed":
            share = report.share(row)
            share = f"{share:>5} of {'the sum' if case.decodes else 'peak'}" if share else ""
            time_of = report.milliseconds(row["seconds"]["median"])
            print(f"    {row['label']:<47} {time_of:>8} ms  {row['ratio']['median']:6.2f} x rhumb  {share}")
        else:
            print(f"    {row['label']:<47} {row['status']}: {row['reason']}")
    sys.stdout.flush()


def _write(whole: dict[str, Any], out: Path, last: bool) -> None:
    """JSON always; Markdown and the chart at the end."""
    peaks = [result["peak_gflops"] for result in whole["cases"]]
    whole["peak_gflops"] = {
        bits: max(peak[bits] for peak in peaks if bits in peak) for bits in set().union(*peaks)
    }
    found = checks(whole["cases"], whole["host"]["flags"])
    name = whole["name"]
    (out / f"{name}.json").write_text(
        json.dumps({**whole, "checks": [check.asdict() for check in found]}, indent=1) + "\n"
    )
    if not last:
        return
    chart = None
    if "matplotlib" not in whole["absent"]:
        try:
            from compare.chart import draw
        except ImportError as error:
            whole["absent"]["matplotlib"] = f"it does not import, and there is no chart: {error}"
        else:
            threads = whole["host"]["threads"]
            title = f"Time relative to rhumb, {threads} thread{'s' * (threads > 1)}: {whole['host']['cpu']}"
            if draw(whole["cases"], title, [out / f"{name}.png", out / f"{name}.svg"]):
                chart = f"{name}.png"
    (out / f"{name}.md").write_text(report.markdown(whole, found, chart))
    failing = [check for check in found if check.holds is False]
    print(f"\n{len(found)} checks, {len(failing)} do not hold", flush=True)
    print(f"report: {out / name}.md", flush=True)


def _rhumb_is_wrong(whole: dict[str, Any]) -> bool:
    rows = [row for result in whole["cases"] for row in result["contenders"] if row["library"] == "rhumb"]
    wrong = [row for row in rows if row["status"] != "timed"]
    for row in wrong:
        print(f"{row['label']} {row['status']}: {row['reason']}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted before the first case", file=sys.stderr)
        sys.exit(130)
