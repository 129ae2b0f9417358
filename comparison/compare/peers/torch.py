"""PyTorch: SDPA, FlexAttention, RoPE + SDPA."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa

from compare.serve import Prepared

Compute = Callable[[], Tensor]
_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Library:
    """Ways to compute a case: names of `_WAYS`, with `/repeat` where keys and values are repeated."""

    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.spec: dict[str, Any] = {}
        self.q = self.k = self.v = torch.empty(0)
        self.cos = self.sin = torch.empty(0)

    def hello(self, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        return {"versions": {"torch": torch.__version__}}

    def load(self, spec: dict[str, Any], folder: Path) -> None:
        def read(name: str, *shape: int) -> Tensor:
            numbers = torch.from_numpy(np.fromfile(folder / f"{name}.f32", dtype="<f4").reshape(shape))
            return numbers.to(_TYPES[spec["elem"]])

        self.spec = spec
        batch, tokens, dim = spec["batch"], spec["tokens"], spec["head_dim"]
        self.q = read("q", batch, spec["heads"], spec["queries"], dim)
        self.k, self.v = (read(name, batch, spec["kv_heads"], tokens, dim) for name in "kv")
        if spec["scheme"] == "rope":
            # As Llama's implementation for PyTorch has them: both halves of a row are the same.
            self.cos, self.sin = (read(name, tokens, dim // 2).repeat(1, 2) for name in ("cos", "sin"))
        # Each case compiles its own code, as a first call with its shape would.
        torch._dynamo.reset()

    def prepare(self, way: str) -> Prepared:
        name, _, repeat = way.partition("/")
        compute, compiles, detail = _WAYS[name](self, bool(repeat))
        if repeat:
            detail += ", keys and values repeated"
        compile_seconds = None
        if compiles:
            start = time.perf_counter()
            compute()
            compile_seconds = time.perf_counter() - start
        out: list[Tensor] = []

        def run() -> None:
            # The last output goes first: a program would have dropped it.
            out.clear()
            out.append(compute())

        return Prepared(run, lambda: out[0].float().numpy(), detail, compile_seconds)

    def _groups(self, repeat: bool) -> tuple[bool, int]:
        """The flag of grouped heads, and how often keys and values are repeated."""
        group = self.spec["heads"] // self.spec["kv_heads"]
        return group > 1 and not repeat, group if repeat else 1

    def sdpa(self, repeat: bool) -> tuple[Compute, bool, str]:
        """SDPA without scheme, causal or not."""
        (flag, times), causal = self._groups(repeat), self.spec["causal"]
        q, k, v = self.q, self.k, self.v

        def compute() -> Tensor:
            return sdpa(q, _repeated(k, times), _repeated(v, times), is_causal=causal, enable_gqa=flag)

        return compute, False, f"scaled_dot_product_attention, is_causal={causal}"

    def sdpa_alibi(self, repeat: bool) -> tuple[Compute, bool, str]:
        """SDPA with ALiBi and causality in one additive mask, made ahead of the timing."""
        flag, times = self._groups(repeat)
        q, k, v, mask = self.q, self.k, self.v, self._alibi_mask()

        def compute() -> Tensor:
            return sdpa(q, _repeated(k, times), _repeated(v, times), attn_mask=mask, enable_gqa=flag)

        return compute, False, "scaled_dot_product_attention, attn_mask [1, head, query, key]"

    def decode(self, repeat: bool) -> tuple[Compute, bool, str]:
        """SDPA of few queries on the keys that they see."""
        flag, times = self._groups(repeat)
        (k, v), mask, turned = self._seen(), self._mask(), self._turned_queries()

        def compute() -> Tensor:
            return sdpa(turned(), _repeated(k, times), _repeated(v, times), attn_mask=mask, enable_gqa=flag)

        return compute, False, f"scaled_dot_product_attention, {_described(mask)}"

    def decode_packed(self, repeat: bool) -> tuple[Compute, bool, str]:
        """The same with the heads of a group as more queries of one head: no keys or values are repeated."""
        if repeat:
            raise ValueError("packed queries need no repeated keys")
        spec, shape = self.spec, self.q.shape
        group = spec["heads"] // spec["kv_heads"]
        packed = (spec["batch"], spec["kv_heads"], group * spec["queries"], spec["head_dim"])
        (k, v), mask, turned = self._seen(), self._mask(), self._turned_queries()
        if mask is not None and mask.shape[1] == 1:
            mask = mask.repeat(1, 1, group, 1)
        elif mask is not None:
            mask = mask.reshape(1, packed[1], packed[2], -1)

        def compute() -> Tensor:
            return sdpa(turned().reshape(packed), k, v, attn_mask=mask).reshape(shape)

        return compute, False, f"scaled_dot_product_attention of packed queries, {_described(mask)}"

    def rope(self, repeat: bool) -> tuple[Compute, bool, str]:
        """RoPE, then SDPA, operation by operation."""
        (flag, times), causal = self._groups(repeat), self.spec["causal"]
        q, k, v, cos, sin = self.q, self.k, self.v, self.cos, self.sin

        def compute() -> Tensor:
            turned = _repeated(_rotated(k, cos, sin), times)
            return sdpa(_rotated(q, cos, sin), turned, _repeated(v, times), is_causal=causal, enable_gqa=flag)

        return compute, False, "rotate_half, then scaled_dot_product_attention"

    def rope_compiled(self, repeat: bool) -> tuple[Compute, bool, str]:
        """The same in one compiled function."""
        (flag, times), causal = self._groups(repeat), self.spec["causal"]
        q, k, v, cos, sin = self.q, self.k, self.v, self.cos, self.sin

        @torch.compile(dynamic=False)
        def attention(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            turned = _repeated(_rotated(k, cos, sin), times)
            return sdpa(_rotated(q, cos, sin), turned, _repeated(v, times), is_causal=causal, enable_gqa=flag)

        return lambda: attention(q, k, v, cos, sin), True, "the same under torch.compile"

    def flex(self, repeat: bool) -> tuple[Compute, bool, str]:
        """FlexAttention, compiled: scheme as `score_mod`, masks as block mask; RoPE ahead of it."""
        (flag, times), spec = self._groups(repeat), self.spec
        q, k, v, cos, sin = self.q, self.k, self.v, self.cos, self.sin
        start, rope, keys_turned = self._start(), spec["scheme"] == "rope", spec["keys_turned"]
        blocks = None
        if sees := self._mask_mod():
            blocks = create_block_mask(sees, None, None, spec["queries"], spec["tokens"], device="cpu")
        score = self._score_mod()

        @torch.compile(dynamic=False)
        def attention(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            if rope:
                q = _rotated(q, cos[start:], sin[start:])
                k = k if keys_turned else _rotated(k, cos, sin)
            k, v = _repeated(k, times), _repeated(v, times)
            return flex_attention(q, k, v, score_mod=score, block_mask=blocks, enable_gqa=flag)

        return lambda: attention(q, k, v, cos, sin), True, "flex_attention under torch.compile"

    def _mask_mod(self) -> Callable[..., Tensor] | None:
        start, window = self._start(), self.spec["window"]
        if window is not None:
            return lambda b, h, i, j: (i + start >= j) & (i + start - j < window)
        if self.spec["causal"]:
            return lambda b, h, i, j: i + start >= j
        return None

    def _score_mod(self) -> Callable[..., Tensor] | None:
        cap, start = self.spec["softcap"], self._start()
        if self.spec["scheme"] == "alibi":
            slopes = self._slopes()
            return lambda score, b, h, i, j: score + slopes[h] * (j - i - start)
        if cap is not None:
            return lambda score, b, h, i, j: cap * torch.tanh(score / cap)
        return None

    def _slopes(self) -> Tensor:
        heads = self.spec["heads"]
        if heads & (heads - 1):
            raise ValueError(f"slopes of {heads} heads: only powers of two are known here")
        return torch.tensor([2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)])

    def _start(self) -> int:
        """The token of the first query: queries are the last tokens."""
        return self.spec["tokens"] - self.spec["queries"]

    def _seen(self) -> tuple[Tensor, Tensor]:
        """Keys and values without those ahead of a window: a view."""
        first = self.spec["first_key"]
        return self.k[:, :, first:], self.v[:, :, first:]

    def _turned_queries(self) -> Callable[[], Tensor]:
        """Gives the queries, rotated where the case has RoPE."""
        q, start = self.q, self._start()
        if self.spec["scheme"] != "rope":
            return lambda: q
        cos, sin = self.cos[start:], self.sin[start:]
        return lambda: _rotated(q, cos, sin)

    def _mask(self) -> Tensor | None:
        """`[1, 1 or head, query, key that is seen]`: what is added to scores; nothing if that is nothing."""
        spec = self.spec
        at = torch.arange(self._start(), spec["tokens"])
        distance = torch.arange(spec["first_key"], spec["tokens"])[None, :] - at[:, None]
        hidden = torch.zeros_like(distance, dtype=torch.bool)
        if spec["causal"] or spec["window"] is not None:
            hidden |= distance > 0
        if spec["window"] is not None:
            hidden |= distance <= -spec["window"]
        alibi = spec["scheme"] == "alibi"
        if not alibi and not hidden.any():
            return None
        mask = (self._slopes() if alibi else torch.zeros(1))[:, None, None] * distance
        return mask.masked_fill_(hidden, float("-inf"))[None].to(self.q.dtype)

    def _alibi_mask(self) -> Tensor:
        at = torch.arange(self.spec["tokens"], dtype=torch.float32)
        distance = at[None, :] - at[:, None]
        mask = self._slopes()[:, None, None] * distance
        return mask.masked_fill_(distance > 0, float("-inf"))[None]


_WAYS: dict[str, Callable[[Library, bool], tuple[Compute, bool, str]]] = {
    "sdpa": Library.sdpa,
    "sdpa-alibi": Library.sdpa_alibi,
    "decode": Library.decode,
    "decode-packed": Library.decode_packed,
    "rope": Library.rope,
    "rope-compiled": Library.rope_compiled,
    "flex": Library.flex,
}


def _described(mask: Tensor | None) -> str:
    return "no mask" if mask is None else f"attn_mask {list(mask.shape)}"


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def _repeated(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else x.repeat_interleave(times, dim=1)
