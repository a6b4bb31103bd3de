import numpy as np
from skimage.color import rgb2lab

from napari_skinseg.training.augment import RandomColour


def test_training_shows_skin_from_light_to_brown():
    # The skin of HAM10000 in the mean, of an apparent tone ("individual typology angle") called light or tan.
    sample = {"image": np.full((8, 8, 3), (195, 150, 145), np.uint8), "mask": np.zeros((8, 8), bool)}
    colour = RandomColour()
    colour.set_random_state(0)
    lab = rgb2lab(np.array([colour(sample)["image"].mean(axis=(0, 1)) / 255 for _ in range(400)])[None])[0]
    brown = (lab[:, 0] < 45) & (lab[:, 2] > 5)
    light = lab[:, 0] > 75
    assert 0.05 < brown.mean() < 0.3
    assert light.mean() > 0.1
    assert np.ptp(lab[:, 1]) > 10
