"""Training of the presence head: its examples, and a head that separates lesions from skin."""

import numpy as np
import torch

from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.training.presence import fit_head, show_small


def test_a_wide_view_shows_one_lesion_of_the_wanted_size():
    rows, columns = np.ogrid[:96, :128]
    mask = (rows - 50) ** 2 + (columns - 60) ** 2 <= 25**2
    image = phantom(0, mask.shape, lesion=False).image
    wide = show_small({"image": image, "mask": mask}, 0.02)
    assert wide is not None
    assert 0.015 < wide["mask"].mean() < 0.025
    assert wide["mask"].sum() == mask.sum()
    assert np.array_equal(wide["image"][wide["mask"]], image[mask])


def test_a_lesion_at_the_edge_gives_no_wide_view():
    mask = np.zeros((96, 128), dtype=bool)
    mask[:40, 30:70] = True
    assert show_small({"image": np.zeros((96, 128, 3), np.uint8), "mask": mask}, 0.02) is None


def test_the_head_separates_features_and_contains_their_normalisation():
    random = torch.Generator().manual_seed(0)
    lesion = torch.rand(400, generator=random) < 0.7
    features = 5 + 100 * torch.randn(400, 12, generator=random)
    features[:, 3] = lesion * 0.2 + 0.05 * torch.randn(400, generator=random)
    found = fit_head(features, lesion, seed=0)(features) > 0
    assert (found == lesion).float().mean() > 0.95
