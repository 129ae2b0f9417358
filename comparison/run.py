#!/usr/bin/env python3
"""Times rhumb and its peers on the same tensors in one run: `python3 comparison/run.py`.

Needs Python and a Rust toolchain alone: makes a virtual environment, installs the peers in it, builds the
worker that runs rhumb and candle, and starts the comparison. `comparison/README.md` says what is timed and
how.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
# NumPy's pinned version asks for it.
OLDEST_PYTHON = (3, 11)
# Parts of requirements.txt, and what each must import.
IMPORTS = {"numpy": "numpy", "chart": "matplotlib", "torch": "torch", "onnxruntime": "onnxruntime, onnx"}
# What an absent part is called in the report.
NAMES = {"chart": "matplotlib"}

FULL = {"samples": 15, "seconds": 3.0}
QUICK = {"samples": 7, "seconds": 1.0}


def main() -> int:
    """Environment, worker, comparison."""
    arguments = parse()
    sys.path.insert(0, str(HERE))
    # Not ahead of the path: this file is no part of the package.
    from compare.cases import selected

    cases = selected(arguments.quick, arguments.filter)
    if not cases:
        return fail(f"no case has {' or '.join(arguments.filter)} in its name; --list shows all names")
    if arguments.list:
        width = max(len(case.id) for case in cases)
        for case in cases:
            print(f"{case.id:<{width}}  {case.group}: {case.label}{'  (quick)' if case.quick else ''}")
        return 0
    if sys.platform == "win32":
        return fail("the comparison needs pipes that can be waited for, as on Linux and macOS; run it in WSL")
    if problem := too_few_processors(arguments.threads, arguments.cpus):
        return fail(problem)
    if not shutil.which("cargo"):
        return fail("cargo is not in the PATH; install Rust from https://rustup.rs")
    if arguments.python:
        python, absent = arguments.python, probe(arguments.python, {})
    else:
        if sys.version_info < OLDEST_PYTHON:
            wanted = ".".join(map(str, OLDEST_PYTHON))
            return fail(
                f"this is Python {sys.version.split()[0]}; the pinned libraries need {wanted} or later"
            )
        python, absent = environment(arguments.extra_index, arguments.renew)
    if "numpy" in absent:
        return fail(f"nothing goes without NumPy: {absent['numpy']}")
    worker = build(absent)
    if worker is None:
        return fail("the worker does not build; cargo's errors are above")
    effort = QUICK if arguments.quick else FULL
    name = arguments.name or datetime.now().strftime("%Y-%m-%d-%H%M%S")
    # The comparison changes its folder to the package's: paths are made whole here.
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "compare", "--worker", str(worker), "--absent", json.dumps(absent)]
    command += ["--threads", str(arguments.threads), "--out", str(out), "--name", name]
    command += ["--samples", str(arguments.samples or effort["samples"])]
    command += ["--seconds", str(arguments.seconds or effort["seconds"])]
    command += ["--quick"] if arguments.quick else []
    command += ["--cpus", arguments.cpus] if arguments.cpus else []
    for pattern in arguments.filter:
        command += ["--filter", pattern]
    say(f"comparing {len(cases)} cases")
    sys.stdout.flush()
    os.chdir(HERE)
    os.execv(command[0], command)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Times rhumb and its peers on the same tensors in one run, interleaved.",
        epilog=textwrap.dedent(
            """
            examples:
              comparison/run.py --quick                            a handful of cases, about two minutes
              comparison/run.py                                    all cases, half an hour or longer
              comparison/run.py --filter alibi-2048 --samples 40   cases with this in their name, more rounds
              comparison/run.py --python ~/torch/bin/python        the peers of an environment that exists

            The first run downloads PyTorch, which is large. Leave the machine alone while it measures. Ends
            with 1 if rhumb computed something wrong, whatever the times.
            """
        ),
    )
    parser.add_argument("--quick", action="store_true", help="a handful of cases with few samples")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="TEXT",
        help="cases with this in their name; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="show the cases and do nothing")
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="threads of everyone (1)"
    )
    parser.add_argument(
        "--samples",
        type=at_least_one,
        metavar="N",
        help=f"rounds ({FULL['samples']}; quick: {QUICK['samples']})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="time for each contender in each case; who is slower takes part in fewer rounds, "
        f"5 at least ({FULL['seconds']:g}; quick: {QUICK['seconds']:g})",
    )
    parser.add_argument(
        "--cpus",
        metavar="LIST",
        type=cpu_list,
        help="processors to stay on, such as 2,3 (the last ones, one per thread)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "results",
        metavar="DIR",
        help="where reports go (comparison/results)",
    )
    parser.add_argument("--name", help="name of the report (date and time)")
    parser.add_argument(
        "--python",
        type=python_path,
        metavar="FILE",
        help="the interpreter of an environment that exists, in place of comparison/.venv",
    )
    parser.add_argument(
        "--extra-index",
        metavar="URL",
        help="one more package index for pip, such as PyTorch's own with wheels without CUDA",
    )
    parser.add_argument("--renew", action="store_true", help="make comparison/.venv anew")
    return parser.parse_args()


def at_least_one(text: str) -> int:
    """A count."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give 1 or more")
    return int(text)


def cpu_list(text: str) -> str:
    """Numbers of processors."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of processors; give numbers, such as 2,3")
    return text


def python_path(text: str) -> Path:
    """An interpreter that is there."""
    found = shutil.which(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no program; give the python of an environment")
    # Not resolved: the link is what makes it the environment's.
    return Path(found).absolute()


def too_few_processors(threads: int, cpus: str | None) -> str | None:
    """Why so many threads can't stay on those processors, before anything is built."""
    if not hasattr(os, "sched_getaffinity"):
        return "--cpus: this system does not let programs choose; leave it out" if cpus else None
    allowed = os.sched_getaffinity(0)
    chosen = {int(cpu) for cpu in cpus.split(",")} if cpus else allowed
    here = f"this machine lets programs use {','.join(map(str, sorted(allowed)))}"
    if not chosen <= allowed:
        return f"--cpus {cpus}: {here}"
    if len(chosen) < threads:
        return f"--threads {threads}: there are {len(chosen)} processors for them; {here}"
    return None


def environment(extra_index: str | None, renew: bool) -> tuple[Path, dict[str, str]]:
    """The virtual environment's interpreter, and the libraries that could not be had, with reasons."""
    python = VENV / "bin" / "python"
    if renew and VENV.exists():
        shutil.rmtree(VENV)
    if not python.exists():
        say(f"making {VENV}")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    reasons = {}
    for part, requirements in sections().items():
        stamp = VENV / f"{part}.installed"
        if stamp.exists() and stamp.read_text() == "\n".join(requirements):
            continue
        say(f"installing {' '.join(requirements)}")
        reason = pip(python, requirements, extra_index)
        if reason:
            reasons[part] = reason
            say(f"{part} could not be installed: {reason}")
        else:
            stamp.write_text("\n".join(requirements))
    return python, probe(python, reasons)


def sections() -> dict[str, list[str]]:
    """requirements.txt by its headings `# [part] what for`."""
    found: dict[str, list[str]] = {}
    part = None
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if heading := re.match(r"# \[(\w+)\]", line):
            part = found.setdefault(heading[1], [])
        elif line.strip() and not line.startswith("#"):
            if part is None:
                raise SystemExit(f"requirements.txt: {line} is under no heading such as '# [torch] what for'")
            part.append(line.strip())
    return found


def pip(python: Path, requirements: list[str], extra_index: str | None) -> str | None:
    """Installs; gives the reason if that fails."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *requirements]
    command += ["--extra-index-url", extra_index] if extra_index else []
    # Progress is shown as it comes; what went wrong goes into the report as well.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return None
    sys.stderr.write(done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return (
        f"pip: {errors[-1].removeprefix('ERROR:').strip()}"
        if errors
        else f"pip ended with status {done.returncode}"
    )


def probe(python: Path, reasons: dict[str, str]) -> dict[str, str]:
    """The libraries that an interpreter does not import, with reasons: its own, or pip's."""
    absent = {}
    for part, modules in IMPORTS.items():
        reason = reasons.get(part)
        if reason is None:
            done = subprocess.run(
                [str(python), "-c", f"import {modules}"], capture_output=True, text=True, check=False
            )
            lines = done.stderr.strip().splitlines()
            if done.returncode:
                reason = f"it does not import: {lines[-1] if lines else f'status {done.returncode}'}"
        if reason is not None:
            absent[NAMES.get(part, part)] = reason
    return absent


def build(absent: dict[str, str]) -> Path | None:
    """The worker's program; without candle if that is what does not build."""
    say("building the worker: rhumb and candle, optimised for this machine")
    worker = cargo([])
    if worker is None:
        say("the worker did not build; trying without candle")
        worker = cargo(["--no-default-features"])
        if worker is not None:
            absent["candle"] = (
                "the worker builds only without it; cargo's errors are in the output of this run"
            )
    return worker


def cargo(options: list[str]) -> Path | None:
    """Builds; gives the program, or nothing."""
    manifest = HERE / "worker" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(manifest)]
    command += ["--bin", "rhumb-bench-worker"]
    command += ["--message-format", "json-render-diagnostics", *options]
    # candle chooses its vectors when it is compiled; what rhumb compiles does not depend on it.
    flags = f"{os.environ.get('RUSTFLAGS', '')} -C target-cpu=native".strip()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=os.environ | {"RUSTFLAGS": flags}, text=True, check=False
    )
    if done.returncode:
        return None
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [message["executable"] for message in messages if message.get("executable")]
    return Path(programs[-1]) if programs else None


def say(text: str) -> None:
    """Progress."""
    print(f"bench: {text}", flush=True)


def fail(text: str) -> int:
    """An error's status, once it is said."""
    print(f"bench: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
