import torch

from napari_skinseg.device import choose_device
from napari_skinseg.events import NeverCancelled
from napari_skinseg.models.network import build
from napari_skinseg.training.loop import TrainingLoop


def test_depthwise_convolutions_are_trained_in_float32():
    network = build("FlexibleUNet")
    loop = TrainingLoop(
        network,
        choose_device("cpu"),
        ((0.5,) * 3, (0.25,) * 3),
        steps_per_pass=1,
        passes=1,
        learning_rate=1e-3,
        weight_decay=0,
        ema=0.9,
        clicks=0,
        seed=0,
        on_step=lambda number, loss: None,
    )
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
