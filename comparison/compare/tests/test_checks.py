"""What the lines of the report say of made-up results."""

import unittest
from typing import Any

from compare.cases import CASES, selected
from compare.checks import checks, excess
from compare.contenders import contenders


def result(case_id: str, times: dict[str, float | None], **changes: dict[str, Any]) -> dict[str, Any]:
    """A result with these times, in ms; `None` for one that was not timed."""
    case = next(case for case in CASES if case.id == case_id)
    rows = []
    for contender in contenders(case, lanes=16):
        time = times.get(contender.id)
        row: dict[str, Any] = {
            "id": contender.id,
            "label": contender.label,
            "library": contender.library,
            "computes": contender.computes,
            "peer": contender.is_peer,
            "status": "absent" if time is None else "timed",
            "reason": "no such wheel" if time is None else None,
            "max_error": None if time is None else 1e-6,
            "compile_seconds": 0.01 if contender.library == "rhumb" else None,
        }
        if time is not None:
            row |= {
                "seconds_by_round": {str(index): time * 1e-3 for index in range(5)},
                "seconds": {"median": time * 1e-3},
                "peak_share": 0.7,
            }
        rows.append(row | changes.get(contender.id, {}))
    return {"case": case.spec(), "contenders": rows}


def by_line(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst check of each line."""
    found = {}
    for check in sorted(checks(results), key=excess):
        found[check.line] = check
    return found


ALIBI = {
    "rhumb": 30.0,
    "rhumb-avx2": 50.0,
    "rhumb-plain": 29.0,
    "torch-sdpa": 45.0,
    "torch-mask": 90.0,
    "torch-flex": 200.0,
    "onnxruntime": 100.0,
    "candle": 400.0,
}


class Checks(unittest.TestCase):
    """Each line of the acceptance."""

    def test_all_lines_of_a_good_result_hold(self):
        found = by_line([result("alibi-2048-d64", ALIBI)])
        self.assertEqual({check.holds for check in found.values()}, {True})
        self.assertEqual(len(found), 9)
        self.assertAlmostEqual(found["causal + ALiBi, of SDPA causal alone"].figure, 30 / 45)

    def test_each_line_can_fail(self):
        slow = ALIBI | {"rhumb": 46.0, "onnxruntime": 45.0}
        late = {"compile_seconds": 0.06, "peak_share": 0.5, "max_error": 2e-6}
        found = by_line(
            [result("alibi-2048-d64", slow, **{"rhumb": late, "rhumb-avx2": {"peak_share": 0.6}})]
        )
        self.assertEqual({check.holds for check in found.values()}, {False})

    def test_other_work_is_no_peer(self):
        # Causal attention without ALiBi is faster here; that is no reason to call rhumb slower.
        found = by_line([result("alibi-2048-d64", ALIBI | {"torch-sdpa": 10.0})])
        self.assertIs(found["no slower than the best peer"].holds, True)
        self.assertIs(found["causal + ALiBi, of SDPA causal alone"].holds, False)

    def test_absent_peers_leave_lines_unmeasured(self):
        alone = {id: time for id, time in ALIBI.items() if id.startswith("rhumb")}
        found = by_line([result("alibi-2048-d64", alone)])
        self.assertIsNone(found["no slower than the best peer"].holds)
        self.assertIn("no such wheel", found["causal + ALiBi, of compiled FlexAttention"].note)
        self.assertIs(found["share of the peak"].holds, True)

    def test_short_prompts_are_held_against_the_best_peer_alone(self):
        found = by_line([result("short-alibi-7-d64", ALIBI)])
        expected = {"no slower than the best peer", "largest error, against PyTorch's", "a kernel compiles"}
        self.assertEqual(found.keys(), expected)


DECODE = {
    "rhumb": 1.0,
    "rhumb-avx2": 1.1,
    "sum": 0.9,
    "torch-sdpa": 8.0,
    "torch-packed": 4.0,
    "torch-flex": 9.0,
    "onnxruntime": 6.0,
    "candle": 3.0,
}


class DecodeChecks(unittest.TestCase):
    """The lines that cases of few queries have."""

    def test_all_lines_of_a_good_result_hold(self):
        found = by_line([result("decode-gqa-q1-4096", DECODE)])
        self.assertEqual({check.holds for check in found.values()}, {True})
        self.assertEqual(len(found), 6)
        self.assertAlmostEqual(found["decode of 4096 keys, share of the vector sum"].figure, 0.9)
        self.assertAlmostEqual(found["decode, of PyTorch SDPA, packed"].figure, 0.25)
        self.assertAlmostEqual(found["decode, of PyTorch SDPA, unpacked"].figure, 0.125)

    def test_each_line_can_fail(self):
        slow = DECODE | {"rhumb": 1.3, "candle": 1.2}
        late = {"compile_seconds": 0.06, "max_error": 2e-6}
        found = by_line([result("decode-gqa-q1-4096", slow, rhumb=late)])
        self.assertEqual({check.holds for check in found.values()}, {False})

    def test_more_keys_ask_for_a_larger_share(self):
        # 82 %.
        times = DECODE | {"rhumb": 1.1}
        for tokens, holds in ((4096, True), (32768, False)):
            found = by_line([result(f"decode-gqa-q1-{tokens}", times)])
            self.assertIs(found[f"decode of {tokens} keys, share of the vector sum"].holds, holds)

    def test_the_sum_is_no_peer(self):
        found = by_line([result("decode-gqa-q1-4096", DECODE | {"sum": 0.1})])
        self.assertIs(found["no slower than the best peer"].holds, True)

    def test_a_sum_that_was_not_timed_leaves_its_line_unmeasured(self):
        found = by_line([result("decode-gqa-q1-4096", DECODE | {"sum": None})])
        line = found["decode of 4096 keys, share of the vector sum"]
        self.assertIsNone(line.holds)
        self.assertIn("no such wheel", line.note)

    def test_schemes_and_masks_are_held_against_none(self):
        line = "decode with a scheme or mask, of none"
        for name in ("causal", "window", "softcap", "rope"):
            for plain, holds in ((0.95, True), (0.8, False)):
                found = by_line([result(f"decode-{name}-q1-4096", DECODE | {"rhumb-plain": plain})])
                self.assertIs(found[line].holds, holds, name)
        # More queries have a causal mask; ALiBi has no limit.
        self.assertIn(line, by_line([result("decode-gqa-q16-4096", DECODE | {"rhumb-plain": 1.0})]))
        self.assertNotIn(line, by_line([result("decode-alibi-q1-4096", DECODE | {"rhumb-plain": 1.0})]))
        self.assertNotIn(line, by_line([result("decode-gqa-q1-4096", DECODE)]))

    def test_other_cases_of_decode_are_held_against_the_best_peer(self):
        found = by_line([result("decode-mha-q1-512", DECODE)])
        expected = {"no slower than the best peer", "largest error, against PyTorch's", "a kernel compiles"}
        self.assertEqual(found.keys(), expected)


class Cases(unittest.TestCase):
    """The catalogue."""

    def test_names_are_unique(self):
        self.assertEqual(len({case.id for case in CASES}), len(CASES))

    def test_work_counts_visible_pairs(self):
        work = {case.id: case.flops for case in CASES}
        self.assertEqual(work["none-2048-d64"], 4 * 8 * 64 * 2048 * 2048)
        self.assertEqual(work["alibi-2048-d64"], 4 * 8 * 64 * 2048 * 2049 // 2)
        self.assertEqual(work["vit-197-d64"], 4 * 8 * 12 * 64 * 197 * 197)

    def test_a_named_case_need_not_be_quick(self):
        self.assertEqual([case.id for case in selected(True, ["alibi-8192"])], ["alibi-8192-d64"])
        self.assertTrue(all(case.quick for case in selected(True, [])))


if __name__ == "__main__":
    unittest.main()
