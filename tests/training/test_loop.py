import torch

from napari_skinseg.device import choose_device
from napari_skinseg.events import NeverCancelled
from napari_skinseg.models.network import build
from napari_skinseg.training.loop import TrainingLoop

NORMALISATION = ((0.5,) * 3, (0.25,) * 3)


def make_loop(network: torch.nn.Module, steps: int, learning_rate: float, passes: int = 1, **options) -> TrainingLoop:
    return TrainingLoop(
        network,
        choose_device("cpu"),
        NORMALISATION,
        steps_per_pass=steps,
        passes=passes,
        learning_rate=learning_rate,
        weight_decay=0,
        clicks=0,
        seed=0,
        on_step=lambda number, loss: None,
        **options,
    )


def test_depthwise_convolutions_are_trained_in_float32():
    network = build("FlexibleUNet")
    loop = make_loop(network, steps=1, learning_rate=1e-3, ema=0.9)
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            depthwise = layer.groups > 1
            layer.register_forward_hook(lambda layer, inputs, output, kind=depthwise: seen[kind].add(output.dtype))
    batch = {"image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "mask": torch.ones(2, 1, 64, 64, dtype=torch.uint8)}
    loop.run_pass(0, [batch], NeverCancelled())
    assert seen[True] == {torch.float32}
    assert seen[False] == {torch.bfloat16 if loop.choice.precision == "bfloat16" else torch.float32}
    assert network.encoder._blocks[0][0]._depthwise_conv.weight.grad.abs().sum() > 0


def test_running_statistics_of_the_averaged_network_fit_its_weights():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(6, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 1)
    )
    image = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    batch = {"image": image, "mask": (image[:, :1] > 128).byte()}
    loop = make_loop(network, steps=80, passes=5, learning_rate=0.3, ema=0.99)
    loop.run_pass(0, [batch] * 80, NeverCancelled())
    normal = (image / 255 - 0.5) / 0.25
    with torch.no_grad():
        features = loop.averaged[0](torch.cat([normal, torch.zeros_like(normal)], dim=1))
    assert not loop.averaged.training
    deviation = features.std(dim=(0, 2, 3))
    assert ((loop.averaged[1].running_mean - features.mean(dim=(0, 2, 3))).abs() < 0.05 * deviation).all()
    assert ((loop.averaged[1].running_var.sqrt() / deviation - 1).abs() < 0.05).all()


def test_frozen_statistics_stay_those_of_the_base():
    network = torch.nn.Sequential(torch.nn.Conv2d(6, 1, 1), torch.nn.BatchNorm2d(1))
    loop = make_loop(network, steps=3, learning_rate=0.1, ema=0.9, frozen_statistics=True)
    batch = {"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "mask": torch.ones(2, 1, 8, 8, dtype=torch.uint8)}
    loop.run_pass(0, [batch] * 3, NeverCancelled())
    assert loop.averaged[1].running_mean == 0
    assert loop.averaged[1].running_var == 1
