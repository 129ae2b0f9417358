"""The tensors of a case, and what attention of them is in double precision."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.cases import Case

# Above this many queries the reference is computed for some of them.
ALL_ROWS = 2048
SOME_ROWS = 512


@dataclass(frozen=True)
class Quantised:
    """Whole numbers of 8 bits, and the scales that they are multiplied by."""

    codes: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, axes: tuple[int, ...]) -> Quantised:
        """Those nearest to numbers, the numbers along `axes` having a scale in common."""
        scales = np.abs(x).max(axis=axes, keepdims=True) / np.float32(127)
        return cls(np.rint(x / scales).astype(np.int8), scales)

    def product(self, dtype: type) -> np.ndarray:
        """The numbers that they stand for."""
        return self.codes.astype(dtype) * self.scales.astype(dtype)


# What has a scale of its own: each token of a head, or each element of a head.
_BY_TOKEN, _BY_CHANNEL = (3,), (2,)


class Tensors:
    """Random queries, keys and values, `[batch, head, token, element]`, and tables of the rotation."""

    def __init__(self, case: Case) -> None:
        # A seed of the case's own: the same tensors in every run and on every machine.
        rng = np.random.default_rng(zlib.crc32(case.id.encode()))
        self.case = case
        keys = (case.batch, case.kv_heads, case.tokens, case.head_dim)
        queries = (case.batch, case.heads, case.queries, case.head_dim)
        self.q = rng.standard_normal(queries, dtype=np.float32) * np.float32(case.q_scale)
        self.k = rng.standard_normal(keys, dtype=np.float32)
        self.v = rng.standard_normal(keys, dtype=np.float32)
        self.q = _rounded(self.q, case.elem)
        # Keys and values by what their scales are of, where they have such.
        self.quantised: dict[str, dict[str, Quantised]] = {}
        if case.stored == "i8":
            drawn = {"k": self.k, "v": self.v}
            for of, axes in (("token", _BY_TOKEN), ("channel", _BY_CHANNEL)):
                self.quantised[of] = {name: Quantised.of(x, axes) for name, x in drawn.items()}
            self.k, self.v = (x.product(np.float32) for x in self.quantised["token"].values())
        else:
            self.k, self.v = (_rounded(x, case.stored) for x in (self.k, self.v))
        if case.queries <= ALL_ROWS:
            self.rows = np.arange(case.queries)
        else:
            drawn = rng.choice(case.queries - 2, SOME_ROWS - 2, replace=False) + 1
            self.rows = np.sort(np.concatenate([[0], drawn, [case.queries - 1]]))

    def write(self, folder: Path) -> None:
        """Raw little-endian `f32`, as all processes read them, and `i8` beside their scales."""
        files = {"q": self.q, "k": self.k, "v": self.v}
        if self.case.scheme == "rope":
            # Rounded once from double precision, so that no peer is charged for angles computed in `f32`.
            angles = _angles(self.case)
            files |= {"cos": np.cos(angles), "sin": np.sin(angles)}
        for name, values in files.items():
            values.astype("<f4").tofile(folder / f"{name}.f32")
        for of, tensors in self.quantised.items():
            for name, numbers in tensors.items():
                numbers.codes.tofile(folder / f"{name}_by_{of}.i8")
                numbers.scales.astype("<f4").tofile(folder / f"{name}_by_{of}.f32")

    def _exact(self, name: str, scales: str) -> np.ndarray:
        """Keys or values in double precision, of the scales of tokens or channels where they have scales."""
        if self.quantised:
            return self.quantised[scales][name].product(np.float64)
        return {"k": self.k, "v": self.v}[name].astype(np.float64)

    def reference(self, case: Case, scales: str = "token") -> np.ndarray:
        """Attention of these tensors as `case` has it, in double precision, of `rows` alone."""
        keys, values = self._exact("k", scales), self._exact("v", scales)
        out = np.empty((case.batch, case.heads, len(self.rows), case.head_dim))
        # Queries are the last tokens.
        start = case.tokens - case.queries
        distance = np.arange(case.tokens)[None, :] - (start + self.rows)[:, None]
        hidden = np.zeros(distance.shape, dtype=bool)
        if case.causal or case.window is not None:
            hidden |= distance > 0
        if case.window is not None:
            hidden |= distance <= -case.window
        group = case.heads // case.kv_heads
        # One head at a time: all scores of a case do not fit everywhere.
        for batch in range(case.batch):
            for head in range(case.heads):
                q = self.q[batch, head].astype(np.float64)
                k = keys[batch, head // group]
                if case.scheme == "rope":
                    q = _rotated(case, q, start)
                    k = k if case.keys_turned else _rotated(case, k, 0)
                score = q[self.rows] @ k.T / np.sqrt(case.head_dim)
                if case.softcap is not None:
                    score = case.softcap * np.tanh(score / case.softcap)
                if case.scheme == "alibi":
                    score += alibi_slopes(case.heads)[head] * distance
                score[hidden] = -np.inf
                weight = np.exp(score - score.max(axis=1, keepdims=True))
                weight /= weight.sum(axis=1, keepdims=True)
                out[batch, head] = weight @ values[batch, head // group]
        return out

    def error(self, path: Path, reference: np.ndarray) -> float:
        """The largest deviation of an output from a reference; infinite if it is not a number somewhere."""
        found = np.fromfile(path, dtype="<f4")
        if found.size != self.q.size:
            raise ValueError(f"an output of {found.size} elements where {self.q.size} are due")
        deviation = np.abs(found.reshape(self.q.shape)[:, :, self.rows] - reference)
        largest = float(deviation.max())
        return largest if np.isfinite(largest) else float("inf")

    def sum(self) -> float:
        """The sum of the keys that some query sees and of their values, in double precision.

        In fewer than 32 bits it is that of the words of 32 bits that they fill, as whole numbers that wrap.
        """
        seen = [x[:, :, self.case.first_key :] for x in (self.k, self.v)]
        if self.case.stored == "f32":
            return sum(float(x.sum(dtype=np.float64)) for x in seen)
        if self.quantised:
            seen = [x.codes[:, :, self.case.first_key :] for x in self.quantised["token"].values()]
        words = (_bits(x, self.case.stored).view("<u4") for x in seen)
        return float(sum(int(x.sum(dtype=np.uint64)) for x in words) % 2**32)

    def error_of_sum(self, path: Path, reference: float) -> float:
        """How far a sum is from the reference, over the standard deviation of such a sum of random numbers.

        Leaving some out would move it by about the root of their share; a sum that wraps, anywhere.
        """
        found = np.fromfile(path, dtype="<f4")
        if found.size != 1:
            raise ValueError(f"a sum of {found.size} elements where one is due")
        deviation = np.sqrt(self.case.kv_bytes / 4) if self.case.stored == "f32" else 2.0**32
        largest = abs(float(found[0]) - reference) / deviation
        return largest if np.isfinite(largest) else float("inf")


def _rounded(x: np.ndarray, elem: str) -> np.ndarray:
    """Numbers of single precision that a type holds: those nearest."""
    match elem:
        case "f16":
            return x.astype(np.float16).astype(np.float32)
        case "bf16":
            return ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
        case _:
            return x


def _bits(x: np.ndarray, elem: str) -> np.ndarray:
    """The bits of numbers that a type holds, one behind the other."""
    match elem:
        case "f16":
            return np.ascontiguousarray(x.astype("<f2"))
        case "bf16":
            return (np.ascontiguousarray(x).view(np.uint32) >> np.uint32(16)).astype("<u2")
        case _:
            return np.ascontiguousarray(x)


def alibi_slopes(heads: int) -> np.ndarray:
    """ALiBi's slopes for a power of two of heads: the only counts the benchmark has."""
    if heads & (heads - 1):
        raise ValueError(f"slopes of {heads} heads: only powers of two are known here")
    return np.exp2(-8.0 * np.arange(1, heads + 1) / heads)


def _angles(case: Case) -> np.ndarray:
    pairs = np.arange(case.head_dim // 2)
    return np.arange(case.tokens)[:, None] * case.rope_base ** (-2.0 * pairs / case.head_dim)[None, :]


def _rotated(case: Case, x: np.ndarray, start: int) -> np.ndarray:
    """Llama's rotation of the tokens from `start` on: element `j` pairs with `j + head_dim / 2`."""
    angles = _angles(case)[start : start + len(x)]
    cos, sin = np.cos(angles), np.sin(angles)
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
