import pytest
import torch

from napari_skinseg.training.losses import LOSSES, build_loss


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_towards_the_true_mask(name):
    loss = build_loss(name)
    truth = torch.zeros(2, 1, 32, 32)
    truth[:, :, 8:24, 8:24] = 1
    right, shifted = 8 * truth - 4, 8 * truth.roll(6, dims=3) - 4
    far = 8 * truth.roll(12, dims=3) - 4
    assert loss(right, truth) < loss(shifted, truth) < loss(far, truth)
    wrong = shifted.clone().requires_grad_()
    loss(wrong, truth).backward()
    missing, extra = wrong.grad[:, :, 8:24, 8:14], wrong.grad[:, :, 8:24, 24:30]
    assert (missing < 0).all()
    assert (extra > 0).all()
