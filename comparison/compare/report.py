"""The report: Markdown for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from compare.cases import DECODES, GROUPS
from compare.checks import Check, excess
from compare.contenders import SAME_WORK
from compare.stats import quantile

OTHER_WORK = "†"


def markdown(report: dict[str, Any], checks: list[Check], chart: str | None) -> str:
    """All of a report."""
    parts = [f"# rhumb and its peers: {report['name']}\n"]
    if report["unfinished"]:
        parts.append(f"**Unfinished:** {report['unfinished']}\n")
    parts += [_host(report), _peers(report), "## Checks\n", *_checks(report, checks)]
    if chart:
        parts += ["## Times relative to rhumb\n", f"![time relative to rhumb, by case]({chart})\n"]
    parts += _groups(report)
    return "\n".join(parts)


def table(header: list[str], rows: Iterable[list[str]], right: int = 0) -> str:
    """A table whose columns from `right` on are numbers."""
    marks = ["---" if index < right else "---:" for index in range(len(header))]
    lines = [header, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def milliseconds(seconds: float) -> str:
    """Three digits that count."""
    value = seconds * 1e3
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def share(row: dict[str, Any]) -> str:
    """A row's share of what bounds its case: the peak, in decode the vector sum. Empty if it is not known."""
    found = row["peak_share"] if "gflops" in row else (row["sum_share"] or {}).get("median")
    return "" if found is None else f"{100 * found:.0f} %"


def _host(report: dict[str, Any]) -> str:
    host, effort = report["host"], report["effort"]
    peaks = ", ".join(
        f"{bits} bits {rate:.1f}" for bits, rate in sorted(report["peak_gflops"].items(), key=_width)
    )
    pinned = f"pinned to {host['pinned_to']}" if host["pinned_to"] else "not pinned"
    rows = [
        ["processor", f"{host['cpu']} (model {host['cpu_model']}), {host['processors']} processors"],
        ["extensions", " ".join(host["flags"])],
        ["memory", f"{host['memory_gib']} GiB"],
        ["system", f"{host['system']}, {host['architecture']}"],
        ["threads", f"{host['threads']}, {pinned}"],
        ["load before", f"{host['load_before']}"],
        ["peak of multiply-adds, GFLOP/s", peaks or "not measured on this machine"],
        ["compilers", f"{host['rustc']}; {host['compiler_of_torch'] or 'no g++'}"],
        ["rhumb at", f"{host['rhumb_revision'] or 'no revision known'}"],
        ["noise", _noise(report)],
        ["sampling", f"{effort['rounds']} rounds, {effort['seconds']:g} s per contender and case"],
        ["taken", f"{report['started']}, in {report['minutes']:.0f} minutes"],
    ]
    return "## Machine\n\n" + table(["", ""], rows, right=2)


def _noise(report: dict[str, Any]) -> str:
    """How far apart the quartiles of rhumb's own times are: what differences mean nothing."""
    rows = [row for result in report["cases"] for row in result["contenders"] if row["id"] == "rhumb"]
    spreads = [row["seconds"] for row in rows if row["status"] == "timed"]
    apart = sorted(100 * (spread["high"] - spread["low"]) / spread["median"] for spread in spreads)
    if not apart:
        return "nothing was timed"
    return f"quartiles of rhumb's times are {quantile(apart, 0.5):.1f} % apart, at most {apart[-1]:.1f} %"


def _peers(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report["versions"].items()))
    lines = [f"## Libraries\n\n{versions}.\n"]
    lines += [f"- **{name} is absent:** {reason}" for name, reason in report["absent"].items()]
    if not report["absent"]:
        lines.append("None is absent.")
    return "\n".join(lines) + "\n"


def _checks(report: dict[str, Any], checks: list[Check]) -> list[str]:
    parts = []
    if report["host"]["threads"] != 1:
        parts.append("The limits are for one thread; this run has more.\n")
    lines: dict[str, list[Check]] = {}
    for check in checks:
        lines.setdefault(check.line, []).append(check)
    rows = []
    for line, of_line in lines.items():
        measured = [check for check in of_line if check.figure is not None]
        if not measured:
            rows.append([line, "not measured", "", "", of_line[0].note])
            continue
        worst = max(measured, key=excess)
        holding = sum(check.holds is True for check in of_line)
        verdict = "holds" if holding == len(of_line) else f"**holds in {holding} of {len(of_line)}**"
        rows.append(
            [line, verdict, f"{worst.order} {_figure(worst, worst.limit)}", _figures(worst), worst.case]
        )
    parts.append(
        "A line's worst case. Ratios are of medians; in brackets are quartiles of the ratios within rounds.\n"
    )
    parts.append(table(["", "verdict", "limit", "worst", "in case"], rows, right=5))
    failing = [check for check in checks if check.holds is False]
    if failing:
        parts.append("What does not hold:\n")
        failing.sort(key=lambda check: check.line)
        rows = [[c.line, c.case, f"{c.order} {_figure(c, c.limit)}", _figures(c), c.note] for c in failing]
        parts.append(table(["", "case", "limit", "measured", ""], rows, right=5))
    missing = [check for check in checks if check.holds is None]
    if missing:
        parts.append("What was not measured:\n")
        parts.append(table(["", "case", "why"], ([c.line, c.case, c.note] for c in missing), right=3))
    return parts


def _figure(check: Check, value: float) -> str:
    match check.unit:
        case "ratio":
            return f"{value:.2f}"
        case "share":
            return f"{100 * value:.0f} %"
        case "seconds":
            return f"{value * 1e3:.1f} ms"
        case _:
            return f"{value:.2g}"


def _figures(check: Check) -> str:
    if check.figure is None:
        return ""
    text = f"{check.figure:.3f}" if check.unit == "ratio" else _figure(check, check.figure)
    if check.unit == "share":
        text = f"{100 * check.figure:.1f} %"
    if check.low is not None and check.high is not None:
        low, high = f"{check.low:.3f}", f"{check.high:.3f}"
        if check.unit == "share":
            low, high = f"{100 * check.low:.1f}", f"{100 * check.high:.1f} %"
        text += f" ({low} to {high})"
    return text


def _groups(report: dict[str, Any]) -> list[str]:
    parts = [
        "## Times\n",
        "Medians and quartiles of the time of a call. *× rhumb* is how many times as long as rhumb it takes: "
        "the\nratio of medians over the rounds that both were in, and the quartiles of the ratios in them.\n"
        "The rate is effective: 4 operations for each element of each pair of a query and a key that see "
        "one\nanother; its share is of the peak at the vector width of the code, for other libraries the "
        "machine's\nwidest. In decode it is in bytes of the keys that are seen and of their values, and its "
        "share is of the\nrate of a plain sum of those. Errors are against double precision.\n"
        f"{OTHER_WORK} does other work than the case, for comparison, and is no peer in it.\n",
    ]
    for group in GROUPS:
        results = [result for result in report["cases"] if result["case"]["group"] == group]
        if not results:
            continue
        rates = ["GB/s", "of the sum"] if group in DECODES else ["GFLOP/s", "of peak"]
        header = ["case", "", "ms", "quartiles", "× rhumb", "quartiles", *rates, "max. error", "compiles, s"]
        rows = []
        for result in results:
            name = f"**{result['case']['label']}**"
            for row in result["contenders"]:
                rows.append([name, *_row(row)])
                name = ""
        parts += [f"### {group[0].upper()}{group[1:]}\n", table(header, rows, right=2)]
    parts.append(_ways(report))
    return parts


def _row(row: dict[str, Any]) -> list[str]:
    label = row["label"] + ("" if row["computes"] in SAME_WORK else f" {OTHER_WORK}")
    error = "" if row["max_error"] is None else f"{row['max_error']:.1e}"
    compiles = "" if row["compile_seconds"] is None else f"{row['compile_seconds']:.3g}"
    if row["status"] != "timed":
        # Absent peers have their reasons above.
        reason = row["status"] if row["status"] == "absent" else f"{row['status']}: {row['reason']}"
        return [f"{label}: {reason}", "", "", "", "", "", "", error, compiles]
    seconds, over = row["seconds"], row["ratio"]
    rate = row["gflops"] if "gflops" in row else row["gbytes_per_second"]
    return [
        label,
        milliseconds(seconds["median"]),
        f"{milliseconds(seconds['low'])} to {milliseconds(seconds['high'])}",
        f"{over['median']:.2f}",
        f"{over['low']:.2f} to {over['high']:.2f}",
        f"{rate:.1f}",
        share(row),
        error,
        compiles,
    ]


def _ways(report: dict[str, Any]) -> str:
    rows = []
    for result in report["cases"]:
        for row in result["contenders"]:
            if row["other_ways"] and row["way"]:
                others = "; ".join(f"{way}: {text}" for way, text in row["other_ways"].items())
                rows.append([result["case"]["id"], row["label"], f"{row['way']}: {row['detail']}", others])
    if not rows:
        return ""
    head = (
        "## Ways\n\n"
        "Where a library has several ways to compute a case, each is tried; the fastest is the one above.\n\n"
    )
    return head + table(["case", "", "timed", "not timed"], rows, right=4)


def _width(item: tuple[str, float]) -> int:
    return int(item[0])
