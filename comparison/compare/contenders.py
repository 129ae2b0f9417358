"""Who computes a case, and in which ways. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compare.cases import Case

Process = Literal["worker", "torch", "onnxruntime"]
Computes = Literal["case", "plain", "alibi", "sum", "f32", "channels"]
# What is as much work as the case.
SAME_WORK: tuple[Computes, ...] = ("case", "channels")


@dataclass(frozen=True)
class Contender:
    """A line of a case's table."""

    id: str
    label: str
    # The library, as absent peers are named; the worker's own loops are none.
    library: Literal["rhumb", "torch", "onnxruntime", "candle", "none"]
    process: Process
    # Names that its process knows. All are tried once, and the fastest is timed.
    ways: tuple[str, ...]
    # What it computes: the case itself, or with scales by channel, or for comparison the same shape without a
    # scheme, or with ALiBi, or in single precision, or the plain sum of keys and values.
    computes: Computes = "case"
    # Bits of its vectors, where not the widest that the machine has.
    bits: int | None = None

    @property
    def is_peer(self) -> bool:
        """Whether it is another library that does the same work."""
        return self.library != "rhumb" and self.computes in SAME_WORK


def contenders(case: Case, lanes: int) -> list[Contender]:
    """All contenders of a case; `lanes` are those that rhumb chooses here."""
    torch = _torch_decode if case.decodes else _torch
    peers = [*torch(case), *_onnxruntime(case), *_candle(case)]
    return [*_rhumb(case, lanes), *_sum(case), *(peer for peer in peers if _takes(peer, case))]


def _takes(peer: Contender, case: Case) -> bool:
    """Whether a library has attention in the case's types on processors."""
    if peer.library == "candle" and case.elem != "f32" and not case.decodes:
        # It converts number by number, and takes seconds for a prompt.
        return False
    if case.stored == "i8":
        return peer.library == "onnxruntime"
    return case.stored != "bf16" or peer.library != "onnxruntime"


def _rhumb(case: Case, lanes: int) -> list[Contender]:
    def rhumb(
        id: str, label: str, way: str, computes: Computes = "case", bits: int = 32 * lanes
    ) -> Contender:
        return Contender(id, f"rhumb, {label}", "rhumb", "worker", (way,), computes, bits)

    widest = f"{lanes} lanes"
    found = [rhumb("rhumb", widest, "rhumb")]
    if lanes > 8:
        found.append(rhumb("rhumb-avx2", "AVX2", "rhumb/avx2", bits=256))
    if case.stored == "i8":
        found.append(rhumb("rhumb-f32-queries", f"{widest}, queries in f32", "rhumb/f32-queries"))
    if case.stored != "f32":
        found.append(rhumb("rhumb-f32", f"{widest}, in f32", "rhumb/f32", "f32"))
        if lanes > 8 and case.decodes:
            found.append(rhumb("rhumb-avx2-f32", "AVX2, in f32", "rhumb/avx2-f32", "f32", 256))
    if case.extra:
        found.append(rhumb("rhumb-plain", f"{widest}, without {case.extra}", "rhumb/plain", "plain"))
    return found


def _sum(case: Case) -> list[Contender]:
    """What bounds decode: each key and value has to be read once."""
    return [Contender("sum", "vector sum", "none", "worker", ("sum",), "sum")] if case.decodes else []


def _torch_contender(id: str, label: str, ways: tuple[str, ...], computes: Computes = "case") -> Contender:
    return Contender(id, f"PyTorch {label}", "torch", "torch", ways, computes)


def _torch_decode(case: Case) -> list[Contender]:
    # SDPA has no softcap.
    computes: Computes = "plain" if case.softcap is not None else "case"
    rope = "RoPE + " if case.scheme == "rope" else ""
    if case.kv_heads == case.heads:
        found = [_torch_contender("torch-sdpa", f"{rope}SDPA", ("decode",), computes)]
    else:
        # Keys and values are not repeated: that alone takes many times as long as the rest.
        found = [
            _torch_contender("torch-sdpa", f"{rope}SDPA, unpacked", ("decode",), computes),
            _torch_contender("torch-packed", f"{rope}SDPA, packed", ("decode-packed",), computes),
        ]
    return [*found, _torch_contender("torch-flex", f"{rope}FlexAttention, compiled", ("flex",))]


def _torch(case: Case) -> list[Contender]:
    def torch(id: str, label: str, *ways: str, computes: Computes = "case") -> Contender:
        return _torch_contender(id, label, ways, computes)

    def grouped(way: str) -> tuple[str, ...]:
        # Grouped heads: the library's own flag, or keys and values repeated as models used to.
        return (way,) if case.kv_heads == case.heads else (way, f"{way}/repeat")

    plain: Computes = "plain" if case.scheme != "none" or case.softcap is not None else "case"
    mask = "causal" if case.causal else "no mask"
    found = [torch("torch-sdpa", f"SDPA, {mask}", *grouped("sdpa"), computes=plain)]
    if case.scheme == "alibi":
        found.append(torch("torch-mask", "SDPA, ALiBi mask tensor", *grouped("sdpa-alibi")))
        found.append(torch("torch-flex", "FlexAttention, compiled", *grouped("flex")))
    if case.scheme == "rope":
        found.append(torch("torch-rope", "RoPE + SDPA, eager", *grouped("rope")))
        found.append(torch("torch-rope-compiled", "RoPE + SDPA, compiled", *grouped("rope-compiled")))
        found.append(torch("torch-flex", "RoPE + FlexAttention, compiled", *grouped("flex")))
        if case.accepted:
            found.append(
                torch("torch-mask", "SDPA, ALiBi mask tensor", *grouped("sdpa-alibi"), computes="alibi")
            )
    if case.softcap is not None:
        found.append(torch("torch-flex", "FlexAttention, compiled", *grouped("flex")))
    return found


def _onnxruntime(case: Case) -> list[Contender]:
    grouped = case.kv_heads != case.heads
    ways: tuple[str, ...]
    if case.stored == "i8":
        # Its scales are those of a tensor or of channels.
        ways = ("gqa-cache-i8",)
        label = "ONNX Runtime, queries in f32, scales by channel"
        return [Contender("onnxruntime", label, "onnxruntime", "onnxruntime", ways, "channels")]
    if case.decodes:
        # Keys that a window hides from all queries are left out ahead of the timing: a single query needs no
        # mask for it.
        masked = case.scheme == "alibi" or (case.queries > 1 and (case.causal or case.window is not None))
        ways = ("attention-mask" if masked else "attention", "gqa-cache")
        of_singles = not grouped and not masked and case.softcap is None and case.elem == "f32"
        ways += ("mha",) if of_singles else ()
    elif case.softcap is not None:
        ways = ("attention", "gqa") if case.causal else ("attention",)
    elif not case.causal:
        ways = ("mha", "attention")
    elif case.scheme == "alibi":
        ways = ("mha", "attention-mask", "gqa")
    elif grouped:
        ways = ("attention-mask", "gqa")
    else:
        ways = ("mha", "attention-mask", "gqa")
    return [Contender("onnxruntime", "ONNX Runtime", "onnxruntime", "onnxruntime", ways)]


def _candle(case: Case) -> list[Contender]:
    # Its fused attention has no softcap without a mask at more than one batch; no case asks for that.
    ways: tuple[str, ...] = ("candle/flash", "candle/matmul")
    if case.queries == 1:
        # Causality hides nothing of a single query, and has code of its own.
        ways += ("candle/flash-causal",)
    return [Contender("candle", "candle", "candle", "worker", ways)]
