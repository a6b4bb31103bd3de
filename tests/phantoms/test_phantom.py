import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from napari_skinseg.errors import BadInput
from napari_skinseg.phantoms.phantom import ARTEFACTS, add_artefact, phantom

SMALL = (120, 160)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where two photos differ by more than rounding, bool [H, W]."""
    return np.abs(before.astype(int) - after).max(-1) > 2


def test_the_seed_determines_the_photo():
    first, again, other = phantom(7, SMALL, ARTEFACTS), phantom(7, SMALL, ARTEFACTS), phantom(8, SMALL, ARTEFACTS)
    assert first.image.dtype == np.uint8
    assert first.image.shape == (*SMALL, 3)
    assert first.mask.dtype == bool
    assert first.mask.shape == SMALL
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert changed(first.image, other.image).mean() > 0.5


def test_a_lesion_is_one_piece_without_holes():
    for seed in range(25):
        mask = phantom(seed, SMALL).mask
        assert ndimage.label(mask)[1] == 1
        # Background that reaches the frame is no hole, so the frame counts as background.
        assert ndimage.label(np.pad(~mask, 1, constant_values=True))[1] == 1


def test_the_mask_ends_at_the_visible_border():
    overlaps = []
    for seed in range(20):
        whole, bare = phantom(seed, SMALL), phantom(seed, SMALL, lesion=False)
        pigment = np.abs(whole.image.astype(float) - bare.image).sum(-1)
        seen = ndimage.binary_fill_holes(pigment > threshold_otsu(pigment))
        overlaps.append((seen & whole.mask).sum() / (seen | whole.mask).sum())
    assert np.median(overlaps) > 0.85


def test_a_soft_edge_has_half_of_the_pigment_at_the_mask_border():
    inside, on, outside = [], [], []
    for seed in range(20):
        whole, bare = phantom(seed, SMALL), phantom(seed, SMALL, lesion=False)
        pigment = np.abs(whole.image.astype(float) - bare.image).sum(-1)
        distance = ndimage.distance_transform_edt(whole.mask) - ndimage.distance_transform_edt(~whole.mask)
        for values, place in ((inside, distance > 8), (on, np.abs(distance) <= 1), (outside, distance < -8)):
            if place.any():
                values.append(pigment[place].mean())
    assert np.mean(outside) < 0.15 * np.mean(inside)
    assert 0.3 < np.mean(on) / np.mean(inside) < 0.7


def test_lesions_have_many_sizes_and_some_are_cut_by_the_frame():
    masks = [phantom(seed, (60, 80)).mask for seed in range(80)]
    areas = [mask.mean() for mask in masks]
    assert 0.005 < min(areas) < 0.03
    assert 0.4 < max(areas) < 0.75
    cut = [mask[[0, -1]].any() or mask[:, [0, -1]].any() for mask in masks]
    assert 0.05 < np.mean(cut) < 0.4


def test_every_skin_tone_occurs():
    lab = np.array([rgb2lab(phantom(seed, (32, 32), lesion=False).image).mean((0, 1)) for seed in range(60)])
    tones = np.degrees(np.arctan2(lab[:, 0] - 50, lab[:, 2]))
    assert (tones > 40).sum() > 5
    assert (tones < 10).sum() > 5
    assert (lab[:, 1] > 0).all(), "skin is never green"


def test_skin_without_a_lesion_has_an_empty_mask():
    bare = phantom(3, SMALL, ARTEFACTS, lesion=False)
    assert not bare.mask.any()
    assert bare.artefacts == ARTEFACTS


@pytest.mark.parametrize("name", ["hair", "ruler", "ink", "sticker", "bubbles"])
def test_an_artefact_changes_nothing_around_it(name):
    untouched = []
    for seed in range(6):
        plain, marked = phantom(seed, SMALL), phantom(seed, SMALL, (name,))
        assert np.array_equal(plain.mask, marked.mask)
        untouched.append(1 - changed(plain.image, marked.image).mean())
    assert np.mean(untouched) > 0.6
    assert min(untouched) < 1


def test_artefacts_are_independent_of_each_other():
    plain, first = phantom(5, SMALL), phantom(5, SMALL, ("sticker",))
    both = phantom(5, SMALL, ("sticker", "ruler"))
    sticker = changed(plain.image, first.image)
    ruler = changed(first.image, both.image)
    assert np.array_equal(first.image[sticker & ~ruler], both.image[sticker & ~ruler])


@pytest.mark.parametrize("name", ARTEFACTS)
@pytest.mark.parametrize("shape", [(96, 128), (1040, 90), (40, 25)])
def test_every_artefact_is_visible_at_every_size_and_keeps_its_inputs(name, shape):
    plain = phantom(11, shape)
    plain.image.flags.writeable = plain.mask.flags.writeable = False
    drawn = []
    for seed in range(4):
        rgb, mask = add_artefact(name, plain.image, plain.mask, np.random.default_rng(seed))
        again, _ = add_artefact(name, plain.image, plain.mask, np.random.default_rng(seed))
        assert rgb.dtype == np.uint8
        assert rgb.shape == plain.image.shape
        assert mask.dtype == bool
        assert mask.shape == plain.mask.shape
        assert np.array_equal(rgb, again)
        assert not (mask & ~plain.mask).any()
        drawn.append(changed(plain.image, rgb).any())
    assert sum(drawn) >= 3


def test_the_dark_field_cuts_the_mask_and_rarely_hides_the_lesion():
    kept = []
    for seed in range(60):
        plain = phantom(seed, (60, 80))
        rgb, mask = add_artefact("dark_field", plain.image, plain.mask, np.random.default_rng(seed))
        hidden = plain.mask & ~mask
        # The rim may be soft, so only the pixels beyond its middle are compared.
        assert rgb[hidden].size == 0 or np.median(rgb[hidden].max(-1)) < np.median(plain.image[plain.mask].max(-1))
        kept.append(mask.sum() / plain.mask.sum())
    assert np.mean(np.array(kept) > 0.7) > 0.85
    assert min(kept) < 1


def test_a_dark_field_without_a_lesion_is_not_always_small():
    bare = phantom(1, (60, 80), lesion=False)
    black = [
        (add_artefact("dark_field", bare.image, bare.mask, np.random.default_rng(seed))[0].max(-1) < 45).mean()
        for seed in range(30)
    ]
    assert max(black) > 0.3


def test_a_sticker_rarely_covers_the_lesion():
    covered = []
    for seed in range(60):
        plain = phantom(seed, SMALL)
        rgb, _ = add_artefact("sticker", plain.image, plain.mask, np.random.default_rng(seed))
        covered.append(changed(plain.image, rgb)[plain.mask].mean())
    assert np.mean(np.array(covered) < 0.1) > 0.85


def test_an_unknown_artefact_and_a_tiny_frame_raise():
    plain = phantom(0, SMALL)
    with pytest.raises(BadInput, match="'tattoo' is not an artefact; choose"):
        add_artefact("tattoo", plain.image, plain.mask, np.random.default_rng(0))
    with pytest.raises(BadInput, match="'tattoo' is not an artefact; choose"):
        phantom(0, SMALL, ("tattoo",))
    with pytest.raises(BadInput, match="at least 16 x 16"):
        phantom(0, (8, 600))
