"""What is computed: the cases, their groups, and the work each of them is. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Scheme = Literal["none", "alibi", "rope"]
Elem = Literal["f32", "f16", "bf16"]
# Of keys and values: whole numbers of 8 bits are scaled.
Stored = Literal["f32", "f16", "bf16", "i8"]
BYTES: dict[Stored, int] = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1}

NO_MASK = "no mask"
CAUSAL = "causal"
CAUSAL_ALIBI = "causal, ALiBi"
CAUSAL_ROPE = "causal, RoPE"
OTHERS = "softcap, grouped heads, vision"
SHORT = "short prompts"
BF16 = "bf16"
DECODE = "decode, one query"
DECODE_SOME = "decode, 4 and 16 queries"
DECODE_SCHEMES = "decode, one query, schemes and masks"
DECODE_BF16 = "decode, bf16"
DECODE_F16 = "decode, f16"
DECODE_I8 = "decode, caches of i8, queries of bf16"
# Groups of fewer queries than keys.
DECODES = (DECODE, DECODE_SOME, DECODE_SCHEMES, DECODE_BF16, DECODE_F16, DECODE_I8)
GROUPS = (NO_MASK, CAUSAL, CAUSAL_ALIBI, CAUSAL_ROPE, OTHERS, SHORT, BF16, *DECODES)


@dataclass(frozen=True)
class Case:
    """An attention of the last queries on all keys: on as many as there are queries, or in decode on more."""

    id: str
    label: str
    group: str
    # Keys.
    tokens: int
    # The queries are the last tokens; all of them unless set.
    last: int | None = None
    head_dim: int = 64
    heads: int = 8
    kv_heads: int = 8
    batch: int = 1
    # Of queries and outputs.
    elem: Elem = "f32"
    # Of keys and values, where not that of queries.
    cache: Stored | None = None
    causal: bool = False
    scheme: Scheme = "none"
    softcap: float | None = None
    # The keys that a query sees, its own the last of them; all unless set.
    window: int | None = None
    rope_base: float = 10_000.0
    # Whether keys were rotated when they were cached, so that a call rotates queries alone.
    keys_turned: bool = False
    # Factor on random queries: a softcap that never bends would not be tested.
    q_scale: float = 1.0
    # Whether the acceptance lines on ratios are about this case.
    accepted: bool = False
    # Part of a quick run.
    quick: bool = False

    @property
    def queries(self) -> int:
        """Queries of a sequence."""
        return self.tokens if self.last is None else self.last

    @property
    def decodes(self) -> bool:
        """Whether queries are fewer than keys: rates are of bytes then."""
        return self.queries < self.tokens

    @property
    def first_key(self) -> int:
        """The first key that a query sees: keys ahead of it are as good as not there."""
        return 0 if self.window is None else max(0, self.tokens - self.queries - self.window + 1)

    @property
    def visible_pairs(self) -> int:
        """Pairs of a query and a key that see one another, over the batch and one head."""
        pairs = self.queries * self.tokens
        if self.causal or self.window is not None:
            most = self.tokens if self.window is None else self.window
            pairs = sum(min(most, at + 1) for at in range(self.tokens - self.queries, self.tokens))
        return self.batch * pairs

    @property
    def flops(self) -> int:
        """Multiplications and additions of both matrix products over visible pairs: what rates count."""
        return 4 * self.visible_pairs * self.heads * self.head_dim

    @property
    def stored(self) -> Stored:
        """The type of keys and values."""
        return self.cache or self.elem

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys that some query sees, and of their values: what rates of decode count."""
        rows = self.batch * self.kv_heads * (self.tokens - self.first_key)
        return 2 * rows * self.head_dim * BYTES[self.stored]

    @property
    def extra(self) -> str:
        """What it has beyond its plain form, in words; nothing if it is that."""
        if self.scheme != "none":
            return {"alibi": "ALiBi", "rope": "RoPE"}[self.scheme]
        if self.softcap is not None:
            return "softcap"
        if self.window is not None:
            return "window"
        return "causal mask" if self.causal and self.decodes else ""

    def spec(self) -> dict[str, Any]:
        """The case as processes are told."""
        told = {
            "queries": self.queries,
            "first_key": self.first_key,
            "extra": self.extra,
            "cache": self.stored,
        }
        return asdict(self) | told

    def plain(self) -> Case:
        """The same shape and mask without scheme and softcap; in decode without a mask as well."""
        without = {"scheme": "none", "softcap": None, "window": None}
        return Case(**{**asdict(self), **without, "causal": self.causal and not self.decodes})

    def in_f32(self) -> Case:
        """The same in single precision."""
        return replace(self, elem="f32", cache=None)

    def with_alibi(self) -> Case:
        """The same shape and mask with ALiBi in place of its scheme."""
        return Case(**{**asdict(self), "scheme": "alibi", "softcap": None})


def _families() -> list[Case]:
    kinds: list[tuple[str, str, bool, Scheme]] = [
        ("none", NO_MASK, False, "none"),
        ("causal", CAUSAL, True, "none"),
        ("alibi", CAUSAL_ALIBI, True, "alibi"),
        ("rope", CAUSAL_ROPE, True, "rope"),
    ]
    shapes = [(512, 64), (1024, 64), (2048, 64), (4096, 64), (8192, 64), (2048, 80), (2048, 128)]
    cases = []
    for name, group, causal, scheme in kinds:
        for tokens, head_dim in shapes:
            if tokens == 8192 and not causal:
                continue
            cases.append(
                Case(
                    id=f"{name}-{tokens}-d{head_dim}",
                    label=f"{tokens} tokens, d {head_dim}",
                    group=group,
                    tokens=tokens,
                    head_dim=head_dim,
                    causal=causal,
                    scheme=scheme,
                    accepted=tokens == 2048 and head_dim in (64, 128) and name != "causal",
                    quick=(tokens, head_dim) == (2048, 64),
                )
            )
    return cases


def _others() -> list[Case]:
    softcap: dict[str, Any] = {"group": OTHERS, "tokens": 2048, "softcap": 50.0, "q_scale": 8.0}
    return [
        Case(id="softcap-2048-d64", label="softcap, 2048 tokens, d 64", **softcap),
        Case(
            id="softcap-causal-2048-d64", label="softcap, causal, 2048 tokens, d 64", causal=True, **softcap
        ),
        Case(
            id="gqa-rope-2048-d128",
            label="32:8 heads, causal, RoPE, 2048 tokens, d 128",
            group=OTHERS,
            tokens=2048,
            head_dim=128,
            heads=32,
            kv_heads=8,
            causal=True,
            scheme="rope",
            rope_base=500_000.0,
        ),
        Case(
            id="vit-197-d64",
            label="ViT: 12 heads, batch 8, 197 tokens, d 64",
            group=OTHERS,
            tokens=197,
            heads=12,
            kv_heads=12,
            batch=8,
            quick=True,
        ),
    ]


def _short() -> list[Case]:
    cases = []
    for tokens in (7, 33, 100):
        shape: dict[str, Any] = {"group": SHORT, "tokens": tokens}
        cases += [
            Case(
                id=f"short-gqa-rope-{tokens}-d128",
                label=f"32:8 heads, causal, RoPE, {tokens} tokens, d 128",
                heads=32,
                kv_heads=8,
                head_dim=128,
                causal=True,
                scheme="rope",
                rope_base=500_000.0,
                quick=tokens == 33,
                **shape,
            ),
            Case(
                id=f"short-alibi-{tokens}-d64",
                label=f"causal, ALiBi, {tokens} tokens, d 64",
                causal=True,
                scheme="alibi",
                **shape,
            ),
            Case(
                id=f"short-none-{tokens}-d64",
                label=f"no mask, {tokens} tokens, d 64",
                quick=tokens == 7,
                **shape,
            ),
        ]
    return cases


def _bf16() -> list[Case]:
    return [
        Case(
            id=f"bf16-causal-2048-d{head_dim}",
            label=f"bf16, causal, 2048 tokens, d {head_dim}",
            group=BF16,
            tokens=2048,
            head_dim=head_dim,
            causal=True,
            elem="bf16",
            accepted=True,
        )
        for head_dim in (64, 128)
    ]


# Heads of keys and values for 32 heads of queries.
_GROUPED = {"mha": 32, "gqa": 8, "mqa": 1}


def _decode_case(heads: str, last: int, tokens: int, **fields: Any) -> Case:
    """A case of decode: 32 heads of 128 elements, one sequence."""
    usual: dict[str, Any] = {
        "id": f"decode-{heads}-q{last}-{tokens}",
        "label": f"32:{_GROUPED[heads]} heads, {last} {'query' if last == 1 else 'queries'}, {tokens} keys",
        "group": DECODE if last == 1 else DECODE_SOME,
        "kv_heads": _GROUPED[heads],
        # All keys are ahead of a single query, which a causal mask would show them all.
        "causal": last > 1,
    }
    return Case(tokens=tokens, last=last, heads=32, head_dim=128, **(usual | fields))


def _decode() -> list[Case]:
    # Without 32768 keys for each of 32 heads: those are a gigabyte, and every process has its own.
    one = [
        ("mha", 512),
        ("mha", 4096),
        ("gqa", 512),
        ("gqa", 4096),
        ("gqa", 32768),
        ("mqa", 512),
        ("mqa", 4096),
        ("mqa", 32768),
    ]
    some = [("mha", 4096), ("gqa", 512), ("gqa", 4096), ("gqa", 32768), ("mqa", 4096)]
    cases = [
        _decode_case(
            heads,
            1,
            tokens,
            accepted=heads == "gqa" and tokens >= 4096,
            quick=(heads, tokens) == ("gqa", 4096),
        )
        for heads, tokens in one
    ]
    cases += [_decode_case(heads, last, tokens) for last in (4, 16) for heads, tokens in some]
    schemes: list[tuple[str, str, dict[str, Any]]] = [
        ("causal", "causal", {"causal": True}),
        ("alibi", "ALiBi", {"scheme": "alibi"}),
        ("window", "window of 1024", {"window": 1024}),
        ("softcap", "softcap", {"softcap": 50.0, "q_scale": 8.0}),
        ("rope", "RoPE on the query", {"scheme": "rope", "keys_turned": True, "rope_base": 500_000.0}),
    ]
    for name, label, fields in schemes:
        cases.append(
            _decode_case(
                "gqa",
                1,
                4096,
                id=f"decode-{name}-q1-4096",
                label=f"{label}, 32:8 heads, 4096 keys",
                group=DECODE_SCHEMES,
                **fields,
            )
        )
    return cases


def _decode_types() -> list[Case]:
    shapes = [
        ("gqa", 1, 512),
        ("gqa", 1, 4096),
        ("gqa", 1, 32768),
        ("mha", 1, 4096),
        ("mqa", 1, 4096),
        ("mqa", 1, 32768),
        ("gqa", 4, 4096),
        ("gqa", 16, 4096),
    ]
    # Queries of 16 bits are what a model in bf16 has for a cache of 8.
    kinds: list[tuple[str, str, dict[str, Any], list[tuple[str, int, int]]]] = [
        ("bf16", DECODE_BF16, {"elem": "bf16"}, shapes),
        ("f16", DECODE_F16, {"elem": "f16"}, [("gqa", 1, 4096), ("gqa", 1, 32768)]),
        ("i8", DECODE_I8, {"elem": "bf16", "cache": "i8"}, shapes),
    ]
    cases = []
    for name, group, types, of_type in kinds:
        for heads, last, tokens in of_type:
            case = _decode_case(
                heads,
                last,
                tokens,
                group=group,
                accepted=(heads, last, tokens) == ("gqa", 1, 32768),
                **types,
            )
            label = f"{name}, {case.label}"
            cases.append(replace(case, id=f"decode-{name}-{heads}-q{last}-{tokens}", label=label))
    return cases


CASES: tuple[Case, ...] = (*_families(), *_others(), *_short(), *_bf16(), *_decode(), *_decode_types())


def selected(quick: bool, patterns: list[str]) -> list[Case]:
    """The cases of a run: all or the quick ones, whose id has one of the patterns in it."""
    cases = [case for case in CASES if case.quick or not quick]
    if patterns:
        # A case that is named is run, whether or not it is quick.
        cases = [case for case in CASES if any(pattern in case.id for pattern in patterns)]
    return cases
