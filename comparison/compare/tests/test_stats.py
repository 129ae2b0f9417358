"""Medians, quartiles, ratios and rounds."""

import unittest
from itertools import pairwise

from compare.stats import quantile, ratio, spread, takes_part


class Stats(unittest.TestCase):
    """Numbers worked out by hand."""

    def test_quartiles_lie_between_neighbours(self):
        self.assertEqual(quantile([1.0, 2.0, 3.0, 4.0], 0.25), 1.75)
        self.assertEqual(quantile([5.0], 0.75), 5.0)
        with self.assertRaisesRegex(ValueError, "no values"):
            quantile([], 0.5)

    def test_a_spread_does_not_ask_for_order(self):
        found = spread([4.0, 1.0, 100.0, 2.0, 3.0])
        self.assertEqual((found.low, found.median, found.high), (2.0, 3.0, 4.0))

    def test_a_ratio_is_of_medians_in_shared_rounds(self):
        # Round 1 was slow for both, and round 2 has only one of them.
        found = ratio({0: 2.0, 1: 20.0, 3: 2.2}, {0: 1.0, 1: 10.0, 2: 50.0, 3: 1.0})
        self.assertEqual(found.median, 2.2)
        self.assertAlmostEqual(found.low, 2.0)
        self.assertAlmostEqual(found.high, 2.1)
        with self.assertRaisesRegex(ValueError, "no round"):
            ratio({0: 1.0}, {1: 1.0})

    def test_samples_are_spread_over_the_rounds(self):
        for rounds in range(1, 40):
            for samples in range(1, 40):
                taken = [index for index in range(rounds) if takes_part(index, rounds, samples)]
                self.assertEqual(len(taken), min(rounds, samples))
                self.assertEqual(taken[0], 0)
                steps = {after - before for before, after in pairwise(taken)}
                self.assertLessEqual(max(steps, default=1) - min(steps, default=1), 1)


if __name__ == "__main__":
    unittest.main()
