"""Makes resample.json: sign-flip p-values and BCa intervals as scipy has them. Run: python3 resample.py (tried with scipy 1.17, numpy 2.4).

The flips are enumerated here by hand and by scipy.stats.permutation_test; both must agree. The bootstrap is scipy.stats.bootstrap's, given the draws that
the engine makes of its keys (threefry.py), so that its intervals can be compared digit by digit."""

import sys
from itertools import product
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from scipy import stats

from store import write_json
from threefry import threefry

HERE = Path(__file__).parent


def fold(key, n):
    """Key.fold of src/key.ts."""
    return threefry((n % 2**32, n >> 32), key)


def words(key, count):
    """Key.bits of src/key.ts."""
    return [word for block in range((count + 1) // 2) for word in threefry((block, 0), key)][:count]


def flipped(sample):
    """How many of all flips leave a sum at least as far from 0, by enumeration, and by scipy."""
    sums = [abs(sum(sign * value for sign, value in zip(signs, sample))) for signs in product((1, -1), repeat=len(sample))]
    p = np.mean(np.array(sums) >= abs(sum(sample)) - 1e-12)
    if len(sample) > 1:
        test = stats.permutation_test((sample,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided")
        assert abs(test.pvalue - p) < 1e-12, (sample, p, test.pvalue)
    return p


class Drawn(np.random.Generator):
    """A generator whose integers are the engine's draws."""

    def __init__(self, seed):
        super().__init__(np.random.PCG64(0))
        self.key = (seed % 2**32, seed >> 32)

    def integers(self, low, high, size, **_):
        of_size = fold(self.key, high)
        return np.array([[word * high >> 32 for word in words(fold(of_size, resample), high)] for resample in range(size[0])])


def mean(sample, axis):
    return np.mean(np.sort(sample, axis), axis)  # sorted, so that the same values have the same sum


def effect(sample, axis):
    sample = np.sort(sample, axis)
    return np.mean(sample, axis) / np.std(sample, axis, ddof=1)


random = np.random.RandomState(1)
samples = [[0.5], [1.0, -2.0], [1.0, 2.0, 3.0], [1.0, 1.0, -1.0, 2.0, 0.0], [0.25] * 6]
samples += [list(np.round(random.normal(shift, 1, n), 6)) for shift, n in ((0.0, 7), (1.0, 8), (0.4, 9), (0.0, 11), (0.8, 13))]

intervals = []
for n, shift, seed, resamples, level in ((8, 1.0, 3, 200, 0.95), (15, 0.2, 4, 300, 0.95), (21, -0.5, 5, 150, 0.8)):
    sample = np.sort(np.round(np.exp(random.normal(0, 0.7, n)) - 1 + shift, 6))
    case = {"sample": list(sample), "seed": seed, "resamples": resamples, "level": level}
    for name, statistic in (("mean", mean), ("effect", effect)):
        made = stats.bootstrap((sample,), statistic, n_resamples=resamples, confidence_level=level, method="BCa", rng=Drawn(seed), vectorized=True)
        case[name] = [float(made.confidence_interval.low), float(made.confidence_interval.high)]
    intervals.append(case)

write_json(HERE / "resample.json", {"flips": [{"sample": sample, "p": float(flipped(sample))} for sample in samples], "intervals": intervals}, 2)
