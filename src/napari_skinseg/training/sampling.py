"""Choose the photos of a pass: rare diagnoses and small lesions may be shown more often."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

SMALL_AREA = 0.1
"""Lesions that cover a smaller part of their photo are small."""
MOST_REPEATS = 3


def sample_photos(
    diagnoses: Sequence[str], balance: float, seed: int, areas: Sequence[float] = (), small: float = 0.0
) -> list[int]:
    """Choose the photos of one pass: as many as there are, rare diagnoses and small lesions more often than they occur.

    Each photo of a diagnosis with n photos has the weight n^-balance (as Conneau and Lample 2019 do for languages): 0
    shows each photo once, 1 shows all diagnoses equally often. A photo with a share of 2.3 is shown twice, and a third
    time with a probability of 0.3. The weight of a lesion that covers a part a < `SMALL_AREA` of its photo is
    multiplied by min(`SMALL_AREA` / a, `MOST_REPEATS`)^small.

    Args:
        diagnoses: diagnosis of each photo; photos with an empty one count as one more diagnosis.
        balance: in [0, 1].
        seed: seed of the random choice.
        areas: part of each photo that the lesion covers, in [0, 1]; only read if `small` is above 0.
        small: in [0, 1].

    Returns:
        Numbers of photos, in ascending order.
    """
    count = Counter(diagnoses)
    weights = np.array([count[diagnosis] ** -balance for diagnosis in diagnoses])
    if small > 0:
        covered = np.asarray(areas)
        repeats = np.clip(SMALL_AREA / np.maximum(covered, 1e-6), 1, MOST_REPEATS) ** small
        weights = weights * np.where(covered > 0, repeats, 1)
    shares = weights * (len(weights) / weights.sum())
    # Systematic sampling: cutting the running sum at whole numbers, from a random start, keeps each share and the
    # total.
    ends = np.floor(np.cumsum(shares) + np.random.default_rng(seed).random() + 1e-9).astype(int)
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0)).tolist()
