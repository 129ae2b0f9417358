"""What the lines of the report say of made-up results."""

import unittest
from collections.abc import Collection
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


# What the machine of a made-up result has.
FLAGS = ("avx2", "f16c", "avx512_bf16", "avx512_vnni")


def by_line(results: list[dict[str, Any]], flags: Collection[str] = FLAGS) -> dict[str, Any]:
    """The worst check of each line."""
    found = {}
    for check in sorted(checks(results, flags), key=excess):
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

    def test_many_queries_are_held_against_what_bounds_them(self):
        line = "decode of 16 queries, share of the peak or of the vector sum"
        # Of the sum 90 % and 45 %.
        for peak, sum_ms, holds, note in (
            (0.71, 0.45, True, "of the peak"),
            (0.6, 0.45, False, "of the peak"),
            (0.3, 0.9, True, "of the vector sum"),
            (None, 0.9, True, "of the vector sum"),
        ):
            times = DECODE | {"sum": sum_ms, "rhumb-plain": 1.0}
            check = by_line([result("decode-gqa-q16-4096", times, rhumb={"peak_share": peak})])[line]
            self.assertEqual((check.holds, check.note), (holds, note))
        self.assertNotIn(line, by_line([result("decode-gqa-q4-4096", DECODE)]))
        self.assertNotIn(line, by_line([result("decode-bf16-gqa-q16-4096", DECODE)]))

    def test_other_cases_of_decode_are_held_against_the_best_peer(self):
        found = by_line([result("decode-mha-q1-512", DECODE)])
        expected = {"no slower than the best peer", "largest error, against PyTorch's", "a kernel compiles"}
        self.assertEqual(found.keys(), expected)


TYPES = DECODE | {"rhumb-f32": 2.1, "rhumb-avx2-f32": 2.2, "rhumb-f32-queries": 1.3}


class TypeChecks(unittest.TestCase):
    """The lines about types other than `f32`."""

    def test_decode_is_held_against_single_precision(self):
        # 1.5 times as fast, 1.7 and 2.1 times.
        for kind, single, holds in (
            ("bf16", 1.5, False),
            ("bf16", 1.7, True),
            ("f16", 1.5, False),
            ("i8", 1.7, False),
            ("i8", 2.1, True),
        ):
            found = by_line([result(f"decode-{kind}-gqa-q1-32768", TYPES | {"rhumb-f32": single})])
            self.assertIs(found[f"decode, {kind}, of f32"].holds, holds, (kind, single))
            self.assertNotIn("decode of 32768 keys, share of the vector sum", found)

    def test_half_the_lanes_have_a_line_of_their_own(self):
        for single, holds in ((1.3, False), (1.5, True)):
            found = by_line([result("decode-f16-gqa-q1-32768", TYPES | {"rhumb-avx2-f32": single})])
            self.assertIs(found["AVX2, decode, f16, of f32"].holds, holds)
        self.assertNotIn("AVX2, decode, i8, of f32", by_line([result("decode-i8-gqa-q1-32768", TYPES)]))

    def test_prompts_are_held_against_single_precision_and_pytorch(self):
        times = {"rhumb": 4.0, "rhumb-avx2": 9.0, "rhumb-f32": 7.0, "torch-sdpa": 10.0}
        found = by_line([result("bf16-causal-2048-d64", times)])
        self.assertEqual({check.holds for check in found.values()}, {True})
        self.assertEqual(len(found), 5)
        found = by_line([result("bf16-causal-2048-d64", times | {"rhumb": 4.6})])
        self.assertIs(found["bf16, of PyTorch SDPA"].holds, False)
        self.assertIs(found["bf16, of rhumb in f32"].holds, False)

    def test_a_processor_without_the_instructions_leaves_lines_unmeasured(self):
        lines = {"bf16": "decode, bf16, of f32", "i8": "decode, i8, of f32"}
        for kind, line in lines.items():
            check = by_line([result(f"decode-{kind}-gqa-q1-32768", TYPES)], ("avx2", "f16c"))[line]
            self.assertIsNone(check.holds)
            self.assertIn("this processor has no avx512", check.note)
        check = by_line([result("bf16-causal-2048-d64", TYPES)], ())["bf16, of PyTorch SDPA"]
        self.assertIsNone(check.holds)

    def test_errors_are_at_most_twice_those_of_pytorch(self):
        line = "largest error, 2 times PyTorch's"
        for error, holds in ((1.9e-6, True), (2.1e-6, False)):
            found = by_line([result("decode-bf16-gqa-q1-512", TYPES, rhumb={"max_error": error})])
            self.assertIs(found[line].holds, holds)
        self.assertNotIn(line, by_line([result("decode-i8-gqa-q1-512", TYPES)]))

    def test_scales_by_channel_are_a_peer(self):
        found = by_line([result("decode-i8-gqa-q1-512", TYPES | {"onnxruntime": 0.9})])
        self.assertIs(found["no slower than the best peer"].holds, False)


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
