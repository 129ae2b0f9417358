"""The driver's side of a process that runs contenders."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# A request that takes longer is taken for a process that hangs: compiling and one slow call stay far below.
PATIENCE_SECONDS = 600.0


class Refused(Exception):
    """A request that the process answered with a reason why not."""


class Gone(Exception):
    """A process that ended, or that no longer answers."""


class Process:
    """A process that answers lines of JSON, its errors in a log of its own."""

    def __init__(self, name: str, command: list[str], threads: int, log: Path) -> None:
        self.name = name
        self.command = command
        self.threads = threads
        self.log = log
        # What the process said of itself when it started.
        self.hello: dict[str, Any] = {}
        self.log.unlink(missing_ok=True)
        self.start()

    @classmethod
    def python(cls, peer: str, threads: int, log: Path) -> Process:
        """The process of a peer that is a Python library; raises `Refused` where that does not import."""
        return cls(peer, [sys.executable, "-m", "compare.serve", peer], threads, log)

    def start(self) -> None:
        """Starts the process, or one in place of a process that ended."""
        self.rest = b""
        count = str(self.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "RAYON_NUM_THREADS": count,
            "CANDLE_NUM_THREADS": count,
            # Compile times are those of a first call, not of finding an earlier run's code.
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
        with self.log.open("ab") as errors:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        self.hello = self.ask("hello", threads=self.threads)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Sends a request, gives its answer."""
        line = json.dumps({"op": op, **fields}) + "\n"
        try:
            assert self.child.stdin is not None
            self.child.stdin.write(line.encode())
            self.child.stdin.flush()
        except OSError as error:
            raise Gone(self._ending()) from error
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        answer = json.loads(self._line())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        """Hangs up, and waits for the end."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.close()
            self.child.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.child.kill()
            self.child.wait()

    def _line(self) -> bytes:
        assert self.child.stdout is not None
        descriptor = self.child.stdout.fileno()
        until = time.monotonic() + PATIENCE_SECONDS
        while b"\n" not in self.rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.child.kill()
                raise Gone(
                    f"{self.name} did not answer for {PATIENCE_SECONDS:.0f} s; its log is {self.log.name}"
                )
            found = os.read(descriptor, 1 << 16)
            if not found:
                raise Gone(self._ending())
            self.rest += found
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def _ending(self) -> str:
        status = self.child.wait()
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1].strip()}" if lines else ""
        # A negative status is a signal; 9 is how the system ends who takes too much memory.
        return f"{self.name} ended with status {status}{last}"
