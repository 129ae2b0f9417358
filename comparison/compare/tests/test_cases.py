"""The catalogue of cases, and who takes part in them."""

import unittest

from compare.cases import CASES, DECODES, Case
from compare.contenders import contenders

BY_ID = {case.id: case for case in CASES}


def ids(case_id: str) -> dict[str, str]:
    """The contenders of a case, with what they compute."""
    return {contender.id: contender.computes for contender in contenders(BY_ID[case_id], lanes=16)}


class Decode(unittest.TestCase):
    """Fewer queries than keys."""

    def test_groups_hold_the_cases_of_fewer_queries_and_no_others(self):
        for case in CASES:
            self.assertEqual(case.decodes, case.group in DECODES, case.id)

    def test_the_goals_are_about_one_query_of_grouped_heads(self):
        accepted = [case.id for case in CASES if case.accepted and case.decodes]
        of_types = [f"decode-{kind}-gqa-q1-32768" for kind in ("bf16", "f16", "i8")]
        self.assertEqual(accepted, ["decode-gqa-q1-4096", "decode-gqa-q1-32768", *of_types])

    def test_bytes_are_those_of_keys_and_values_that_are_seen(self):
        self.assertEqual(BY_ID["decode-gqa-q1-4096"].kv_bytes, 2 * 4 * 8 * 4096 * 128)
        self.assertEqual(BY_ID["decode-mqa-q16-4096"].kv_bytes, 2 * 4 * 4096 * 128)
        self.assertEqual(BY_ID["decode-window-q1-4096"].kv_bytes, 2 * 4 * 8 * 1024 * 128)
        self.assertEqual(BY_ID["decode-window-q1-4096"].plain().kv_bytes, 2 * 4 * 8 * 4096 * 128)
        self.assertEqual(BY_ID["decode-bf16-gqa-q1-4096"].kv_bytes, 2 * 2 * 8 * 4096 * 128)
        self.assertEqual(BY_ID["decode-i8-gqa-q1-4096"].kv_bytes, 2 * 8 * 4096 * 128)
        self.assertEqual(BY_ID["decode-i8-gqa-q1-4096"].in_f32().kv_bytes, 2 * 4 * 8 * 4096 * 128)

    def test_no_process_gets_a_gigabyte(self):
        for case in CASES:
            self.assertLess(case.kv_bytes, 1 << 30, case.id)

    def test_queries_are_the_last_tokens(self):
        def pairs(**fields):
            return Case(id="", label="", group="", tokens=5, **fields).visible_pairs

        self.assertEqual(pairs(last=2), 10)
        self.assertEqual(pairs(last=2, causal=True), 4 + 5)
        self.assertEqual(pairs(last=2, window=3), 3 + 3)
        self.assertEqual(pairs(window=3), 1 + 2 + 3 + 3 + 3)

    def test_a_window_starts_with_the_first_query(self):
        def first(last, window):
            return Case(id="", label="", group="", tokens=100, last=last, window=window).first_key

        self.assertEqual([first(1, 10), first(4, 10), first(4, None), first(4, 1000)], [90, 87, 0, 0])

    def test_processes_are_told_what_follows_from_the_case(self):
        spec = BY_ID["decode-window-q1-4096"].spec()
        self.assertEqual((spec["queries"], spec["first_key"], spec["extra"]), (1, 3072, "window"))
        self.assertEqual(BY_ID["none-512-d64"].spec()["queries"], 512)
        types = [(spec["elem"], spec["cache"]) for spec in (case.spec() for case in CASES)]
        self.assertEqual(set(types), {("f32", "f32"), ("f16", "f16"), ("bf16", "bf16"), ("bf16", "i8")})

    def test_a_plain_form_has_nothing_beyond_the_shape(self):
        for case in CASES:
            self.assertEqual(case.plain().extra, "", case.id)
            self.assertEqual(case.plain().queries, case.queries, case.id)
        # A prompt keeps its mask.
        self.assertTrue(BY_ID["alibi-2048-d64"].plain().causal)
        self.assertFalse(BY_ID["decode-gqa-q4-4096"].plain().causal)


class Contenders(unittest.TestCase):
    """Who computes what in decode."""

    def test_grouped_heads_are_packed_and_others_need_no_packing(self):
        self.assertIn("torch-packed", ids("decode-gqa-q1-4096"))
        self.assertIn("torch-packed", ids("decode-mqa-q16-4096"))
        self.assertNotIn("torch-packed", ids("decode-mha-q1-4096"))

    def test_the_vector_sum_is_there_and_no_peer(self):
        for case in CASES:
            found = [c for c in contenders(case, lanes=8) if c.computes == "sum"]
            self.assertEqual(len(found), int(case.decodes), case.id)
            self.assertFalse(any(contender.is_peer for contender in found))

    def test_rhumb_comes_first_and_without_what_is_beyond_the_plain_form(self):
        for case in CASES:
            found = contenders(case, lanes=16)
            self.assertEqual(found[0].id, "rhumb")
            self.assertEqual("rhumb-plain" in {c.id for c in found}, bool(case.extra), case.id)

    def test_who_takes_part_is_a_matter_of_types(self):
        peers = {"torch-sdpa", "torch-packed", "torch-flex", "onnxruntime", "candle"}
        for kind, found in (("f16", peers), ("bf16", peers - {"onnxruntime"}), ("i8", {"onnxruntime"})):
            self.assertEqual(ids(f"decode-{kind}-gqa-q1-32768").keys() & peers, found, kind)
        self.assertEqual(ids("decode-i8-gqa-q1-512")["onnxruntime"], "channels")
        self.assertEqual(ids("decode-i8-gqa-q1-512")["rhumb-f32-queries"], "case")
        self.assertEqual(ids("decode-bf16-gqa-q1-512")["rhumb-avx2-f32"], "f32")
        self.assertEqual(ids("bf16-causal-2048-d64").keys() & peers, {"torch-sdpa"})
        self.assertNotIn("rhumb-avx2-f32", ids("bf16-causal-2048-d64"))

    def test_sdpa_leaves_a_softcap_out_and_computes_all_else(self):
        self.assertEqual(ids("decode-softcap-q1-4096")["torch-packed"], "plain")
        for name in ("causal", "alibi", "window", "rope"):
            found = ids(f"decode-{name}-q1-4096")
            self.assertEqual((found["torch-sdpa"], found["torch-packed"]), ("case", "case"), name)

    def test_onnxruntime_gets_a_mask_where_a_flag_would_hide_the_wrong_keys(self):
        ways = {
            case_id: next(c for c in contenders(BY_ID[case_id], 16) if c.id == "onnxruntime").ways
            for case_id in ("decode-gqa-q4-4096", "decode-gqa-q1-4096", "decode-mha-q1-4096", "none-512-d64")
        }
        self.assertEqual(ways["decode-gqa-q4-4096"], ("attention-mask", "gqa-cache"))
        self.assertEqual(ways["decode-gqa-q1-4096"], ("attention", "gqa-cache"))
        self.assertEqual(ways["decode-mha-q1-4096"], ("attention", "gqa-cache", "mha"))
        self.assertEqual(ways["none-512-d64"], ("mha", "attention"))


if __name__ == "__main__":
    unittest.main()
