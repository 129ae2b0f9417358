"""Medians, quartiles and ratios. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The middle of some numbers, and the half of them around it."""

    median: float
    low: float
    high: float

    def asdict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """A quantile of sorted values, linear between neighbours."""
    if not sorted_values:
        raise ValueError("a quantile of no values; sample at least once")
    place = share * (len(sorted_values) - 1)
    low = int(place)
    high = min(low + 1, len(sorted_values) - 1)
    return sorted_values[low] + (place - low) * (sorted_values[high] - sorted_values[low])


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    ordered = sorted(values)
    return Spread(quantile(ordered, 0.5), quantile(ordered, 0.25), quantile(ordered, 0.75))


def ratio(over: dict[int, float], under: dict[int, float]) -> Spread:
    """The ratio of the medians of two contenders, and the quartiles of the ratios within rounds.

    Both are times by round; a round that one of them sat out counts for neither. Within a round both meet the
    same neighbours on the machine, so quartiles of ratios are tighter than
    ratios of quartiles.
    """
    rounds = sorted(over.keys() & under.keys())
    if not rounds:
        raise ValueError("two contenders that share no round can't be compared")
    pairs = sorted(over[index] / under[index] for index in rounds)
    middle = median(over[index] for index in rounds) / median(under[index] for index in rounds)
    return Spread(middle, quantile(pairs, 0.25), quantile(pairs, 0.75))


def takes_part(index: int, rounds: int, samples: int) -> bool:
    """Whether a contender of so many samples is in this round: evenly spread, the first one always."""
    return samples >= rounds or index * samples // rounds != (index - 1) * samples // rounds
