"""Which photos a pass shows, and how often: rare diagnoses may be shown more often than they occur."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def sample_photos(diagnoses: Sequence[str], balance: float, seed: int) -> list[int]:
    """Choose the photos of one pass: as many as there are, rare diagnoses more often than they occur.

    Each photo of a diagnosis with n photos has the weight n^-balance (as Conneau and Lample 2019 do for languages): 0
    shows each photo once, 1 shows all diagnoses equally often. A photo with a share of 2.3 is shown twice, and a third
    time with a probability of 0.3.

    Args:
        diagnoses: diagnosis of each photo; photos with an empty one count as one more diagnosis.
        balance: in [0, 1].
        seed: seed of the random choice.

    Returns:
        Numbers of photos, in ascending order.
    """
    count = Counter(diagnoses)
    weights = np.array([count[diagnosis] ** -balance for diagnosis in diagnoses])
    shares = weights * (len(weights) / weights.sum())
    # Systematic sampling: cutting the running sum at whole numbers, from a random start, keeps each share and the
    # total.
    ends = np.floor(np.cumsum(shares) + np.random.default_rng(seed).random() + 1e-9).astype(int)
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0)).tolist()
