"""What tables of made-up results say."""

import unittest
from typing import Any

from compare.cases import CASES
from compare.checks import Check
from compare.report import _figures, _groups, share


def row(label: str, seconds: float, **rates: Any) -> dict[str, Any]:
    """A contender that was timed."""
    spread = {"median": seconds, "low": seconds, "high": seconds}
    return {
        "label": label,
        "computes": "case",
        "status": "timed",
        "seconds": spread,
        "ratio": {"median": 1.0, "low": 1.0, "high": 1.0},
        "max_error": 1e-6,
        "compile_seconds": None,
        "other_ways": {},
        "way": label,
    } | rates


def tables(case_id: str, *rows: dict[str, Any]) -> str:
    """The tables of a report of one case."""
    case = next(case for case in CASES if case.id == case_id)
    return "\n".join(_groups({"cases": [{"case": case.spec(), "contenders": list(rows)}]}))


class Tables(unittest.TestCase):
    """Rates and shares, by what bounds a case."""

    def test_rates_of_prompts_are_operations(self):
        found = tables("none-512-d64", row("rhumb", 0.002, gflops=123.4, peak_share=0.81))
        self.assertIn("GFLOP/s | of peak", found)
        self.assertNotIn("| GB/s", found)
        self.assertIn("| 123.4 | 81 % |", found)

    def test_rates_of_decode_are_bytes(self):
        of_sum = {"median": 0.876, "low": 0.86, "high": 0.89}
        found = tables("decode-gqa-q1-4096", row("rhumb", 0.001, gbytes_per_second=33.55, sum_share=of_sum))
        self.assertIn("GB/s | of the sum", found)
        self.assertNotIn("| GFLOP/s", found)
        self.assertIn("| 33.5 | 88 % |", found)

    def test_a_share_that_is_not_known_is_empty(self):
        self.assertEqual(share({"gflops": 1.0, "peak_share": None}), "")
        self.assertEqual(share({"gbytes_per_second": 1.0, "sum_share": None, "peak_share": 0.5}), "")

    def test_quartiles_of_shares_are_percents(self):
        check = Check("", "", "share", 0.75, ">=", 0.876, 0.86, 0.89)
        self.assertEqual(_figures(check), "87.6 % (86.0 to 89.0 %)")
        check = Check("", "", "ratio", 0.75, "<=", 0.876, 0.86, 0.89)
        self.assertEqual(_figures(check), "0.876 (0.860 to 0.890)")


if __name__ == "__main__":
    unittest.main()
