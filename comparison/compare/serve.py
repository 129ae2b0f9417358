"""The process of a peer: lines of JSON in, lines of JSON out, times taken in here around the calls alone.

The same requests as in `worker/src/main.rs`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass
class Prepared:
    """A contender that is ready to run."""

    # One call.
    run: Callable[[], None]
    # What the last call computed: `[batch, head, token, element]`.
    output: Callable[[], np.ndarray]
    # What it uses, in words.
    detail: str
    # How long its compilation took, where there is one.
    compile_seconds: float | None = None


class Library(Protocol):
    """What a module of `compare.peers` gives as `Library`."""

    def hello(self, threads: int) -> dict[str, Any]:
        """Sets the threads; gives versions."""

    def load(self, spec: dict[str, Any], folder: Path) -> None:
        """Takes the tensors of a case."""

    def prepare(self, way: str) -> Prepared:
        """Makes a way to compute the case ready to run."""


class Server:
    """Answers requests."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.contenders: dict[str, Prepared] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        match request["op"]:
            case "hello":
                return self.library.hello(request["threads"])
            case "case":
                self.contenders.clear()
                gc.collect()
                self.library.load(request["case"], Path(request["folder"]))
                return {}
            case "prepare":
                prepared = self.library.prepare(request["contender"])
                self.contenders[request["contender"]] = prepared
                return {"compile_seconds": prepared.compile_seconds, "detail": prepared.detail}
            case "output":
                prepared = self._contender(request)
                seconds = timed(prepared.run, 0, 1)
                np.ascontiguousarray(prepared.output(), dtype="<f4").tofile(request["path"])
                return {"seconds": seconds}
            case "time":
                return {"seconds": timed(self._contender(request).run, request["warm"], request["calls"])}
            case "drop":
                self.contenders.pop(request["contender"], None)
                gc.collect()
                return {}
            case op:
                raise ValueError(f"no request is called {op}")

    def _contender(self, request: dict[str, Any]) -> Prepared:
        name = request["contender"]
        if name not in self.contenders:
            raise KeyError(f"{name} was not prepared for this case")
        return self.contenders[name]


def timed(run: Callable[[], None], warm: int, calls: int) -> float:
    """Seconds per call."""
    for _ in range(warm):
        run()
    # A collection in the middle would be charged to whoever is being timed.
    gc.disable()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    seconds = (time.perf_counter() - start) / calls
    gc.enable()
    return seconds


def main() -> None:
    """Serves the library that the command line names until the driver hangs up."""
    # What libraries print goes to the log: the lines of answers are no place for it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        server = Server(import_module(f"compare.peers.{sys.argv[1]}").Library())
    except Exception as error:
        # The answer to the first request, whatever that asks.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    for line in sys.stdin:
        try:
            answer = {"ok": server.answer(json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
