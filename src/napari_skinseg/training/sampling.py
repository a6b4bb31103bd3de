"""TODO."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def drawn(diagnoses: Sequence[str], balance: float, seed: int) -> list[int]:
    """The numbers of the photos that one pass shows, as many as there are, rare diagnoses more often than they occur.

    A diagnosis with n photos weighs n^-balance per photo: 0 takes each photo once, 0.5 evens out by the square root, 1
    shows all diagnoses equally often (as for languages in Conneau and Lample 2019). A photo whose share is 2.3 is shown
    twice, or thrice with probability 0.3. A diagnosis that is not known counts as one of its own.
    """
    count = Counter(diagnoses)
    weights = np.array([count[diagnosis] ** -balance for diagnosis in diagnoses])
    shares = weights * (len(weights) / weights.sum())
    # Cutting the running sum at whole numbers, from a random start, draws each share exactly and the total too.
    ends = np.floor(np.cumsum(shares) + np.random.default_rng(seed).random() + 1e-9).astype(int)
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0)).tolist()
