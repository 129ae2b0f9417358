"""What is computed: the cases, their groups, and the work each of them is. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Scheme = Literal["none", "alibi", "rope"]

NO_MASK = "no mask"
CAUSAL = "causal"
CAUSAL_ALIBI = "causal, ALiBi"
CAUSAL_ROPE = "causal, RoPE"
OTHERS = "softcap, grouped heads, vision"
SHORT = "short prompts"
GROUPS = (NO_MASK, CAUSAL, CAUSAL_ALIBI, CAUSAL_ROPE, OTHERS, SHORT)


@dataclass(frozen=True)
class Case:
    """An attention of as many queries as keys."""

    id: str
    label: str
    group: str
    tokens: int
    head_dim: int = 64
    heads: int = 8
    kv_heads: int = 8
    batch: int = 1
    causal: bool = False
    scheme: Scheme = "none"
    softcap: float | None = None
    rope_base: float = 10_000.0
    # Factor on random queries: a softcap that never bends would not be tested.
    q_scale: float = 1.0
    # Whether the acceptance lines on ratios are about this case.
    accepted: bool = False
    # Part of a quick run.
    quick: bool = False

    @property
    def visible_pairs(self) -> int:
        """Pairs of a query and a key that see one another, over the batch and one head."""
        pairs = self.tokens * (self.tokens + 1) // 2 if self.causal else self.tokens**2
        return self.batch * pairs

    @property
    def flops(self) -> int:
        """Multiplications and additions of both matrix products over visible pairs: what rates count."""
        return 4 * self.visible_pairs * self.heads * self.head_dim

    def spec(self) -> dict[str, Any]:
        """The case as processes are told."""
        return asdict(self)

    def plain(self) -> Case:
        """The same shape and mask without scheme and softcap."""
        return Case(**{**asdict(self), "scheme": "none", "softcap": None})

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


CASES: tuple[Case, ...] = (*_families(), *_others(), *_short())


def selected(quick: bool, patterns: list[str]) -> list[Case]:
    """The cases of a run: all or the quick ones, whose id has one of the patterns in it."""
    cases = [case for case in CASES if case.quick or not quick]
    if patterns:
        # A case that is named is run, whether or not it is quick.
        cases = [case for case in CASES if any(pattern in case.id for pattern in patterns)]
    return cases
