"""The training loop: forward, loss, backward, optimizer, learning rate schedule and averaged weights.

Training (`training.run`) and fine-tuning (`finetuning.run`) both use this loop. They differ in the photos that the
network learns from, and in the files that they write.

A *pass* shows every photo once on average. Other libraries call it an epoch.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from monai.optimizers import WarmupCosineSchedule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_skinseg.device import DeviceChoice, autocast
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken
from napari_skinseg.models.click_channels import Click, encode_clicks
from napari_skinseg.models.network import CLICK_CHANNELS
from napari_skinseg.segmentation.simulated_clicks import distorted, several_clicks

from .distributed import is_true_anywhere, process_count, process_rank
from .losses import DEFAULT_LOSS, build_loss

FIRST_MOMENTUM = 0.1
"""Share of the network's weights in the averaged weights at the first step. A constant small share would keep the
average far behind the weights, which change fast at the start."""
STATISTICS_STEPS = 64
"""Largest number of steps, of the last quarter of a pass, whose batches give the running statistics of the averaged
network. Those of the trained network do not fit the averaged weights: with them, validation Dice was 0.73 instead of
0.87 after three passes."""

Batch = dict[str, torch.Tensor]
"""{"image": uint8 `[N, 3, H, W]`, "mask": uint8 `[N, 1, H, W]` in {0, 1}}"""

OnStep = Callable[[int, float], None]
"""Called after each step with the number of the step, from 1, and its loss."""


class _DepthwiseInFloat32(torch.nn.Conv2d):
    """A depthwise convolution in float32, also under autocast.

    On CPUs, its gradients take three times as long in bfloat16: a step of an EfficientNet took 0.71 s instead of 0.48
    s.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class TrainingLoop:
    """Trains a network in place, pass by pass.

    Args:
        network: the network to train.
        choice: device and precision.
        normalisation: (mean, standard deviation) per RGB channel of photos scaled to [0, 1].
        steps_per_pass: number of batches in a pass.
        passes: number of passes; the learning rate rises for 2 % of all steps and then falls along a cosine.
        learning_rate: highest learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        ema: decay per step of the averaged weights (exponential moving average).
        clicks: share of each batch that gets simulated clicks, in [0, 1].
        seed: seed of the simulated clicks.
        on_step: see `OnStep`.
        loss: a name in `losses.LOSSES`.
        frozen_statistics: do not change the running statistics of batch normalisation.

    Attributes:
        averaged: the network with the averaged weights, in evaluation mode; complete at the end of a pass.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        choice: DeviceChoice,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        *,
        steps_per_pass: int,
        passes: int,
        learning_rate: float,
        weight_decay: float,
        ema: float,
        clicks: float,
        seed: int,
        on_step: OnStep,
        loss: str = DEFAULT_LOSS,
        frozen_statistics: bool = False,
    ) -> None:
        self.choice, self.normalisation = choice, normalisation
        # On a CPU, instance normalisation copies channels-last tensors, which costs more time than this layout saves.
        copies = choice.device == "cpu" and any(isinstance(layer, _InstanceNorm) for layer in network.modules())
        self.layout = torch.contiguous_format if copies else torch.channels_last
        if self.choice.device == "cpu" and self.choice.precision == "bfloat16":
            for layer in network.modules():
                if type(layer) is torch.nn.Conv2d and layer.groups > 1:
                    layer.__class__ = _DepthwiseInFloat32
        self.network = network.to(torch.device(choice.device), memory_format=self.layout)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.steps_per_pass, self.clicks, self.seed, self.on_step = steps_per_pass, clicks, seed, on_step
        self.frozen_statistics = frozen_statistics
        # Under torchrun, each process has its own batches, and DistributedDataParallel averages their gradients.
        self.trained = DistributedDataParallel(self.network) if process_count() > 1 else self.network
        steps = steps_per_pass * passes
        self.optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
        self.schedule = WarmupCosineSchedule(self.optimizer, warmup_steps=max(1, steps // 50), t_total=steps)
        self.scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "float16")
        self.loss = build_loss(loss)
        self.momentum, self.momentum_steps = 1 - ema, min(1000, max(1, steps // 5))
        self.random = np.random.default_rng(seed)

    def run_pass(self, number: int, batches: Iterable[Batch], cancel: CancelToken) -> float:
        """Train on `batches`.

        Args:
            number: number of the pass; 0 is the first.
            batches: the batches of this pass, `steps_per_pass` of them.
            cancel: is read after each step.

        Returns:
            The mean loss of the steps.

        Raises:
            BadInput: the loss is not a finite number any more.
            Cancelled: `cancel` was set, here or in another process.
            torch.OutOfMemoryError: the batches are too large for the device.
        """
        self.random = np.random.default_rng((self.seed, number, process_rank()))
        losses: list[float] = []
        first_of_statistics = self.steps_per_pass - min(STATISTICS_STEPS, -(-self.steps_per_pass // 4))
        for step, batch in enumerate(batches, start=number * self.steps_per_pass + 1):
            inputs, loss = self._step(batch)
            if not np.isfinite(loss):
                raise BadInput(
                    "The loss is no longer a number; the run stopped at its last checkpoint. Lower the learning rate."
                )
            self._update_average(step)
            if len(losses) >= first_of_statistics:
                self._update_statistics(inputs, is_first=len(losses) == first_of_statistics)
            losses.append(loss)
            self.on_step(step, loss)
            # All processes must stop after the same step, because each waits for the gradients of the others.
            if is_true_anywhere(cancel.is_set(), self.choice.device):
                raise Cancelled
        return float(np.mean(losses))

    def state(self) -> dict[str, Any]:
        """Return all that is needed to continue, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "ema": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        # The number of passes may differ from that of the stored schedule; the new number counts.
        length = {name: getattr(self.schedule, name) for name in ("t_total", "warmup_steps")}
        self.schedule.load_state_dict({**state["schedule"], **length})
        self.scaler.load_state_dict(state["scaler"])

    def close(self) -> None:
        """Free the memory of the device."""
        self.optimizer.state.clear()
        self.network.cpu()
        self.averaged.cpu()
        if self.choice.device == "cuda":
            torch.cuda.empty_cache()

    def _step(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """Make one step of the optimizer; return the input of the network, `[N, 6, H, W]`, and the loss."""
        image = batch["image"].to(self.choice.device, non_blocking=True)
        truth = batch["mask"].to(self.choice.device, non_blocking=True).float()
        mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in self.normalisation)
        normal = (image.float() / 255 - mean) / std
        inputs = torch.cat([normal, self._click_channels(normal, truth)], dim=1).contiguous(memory_format=self.layout)
        self._set_training_mode()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.choice):
            logits = self.trained(inputs)
        loss = self.loss(logits.float(), truth)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return inputs, float(loss.detach())

    def _set_training_mode(self) -> None:
        self.network.train()
        if self.frozen_statistics:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def _update_average(self, step: int) -> None:
        """Move the averaged weights towards the weights after step number `step`, from 1."""
        share = min(1.0, (step - 1) / max(1, self.momentum_steps - 1))
        momentum = FIRST_MOMENTUM + (self.momentum - FIRST_MOMENTUM) * share
        update = get_ema_multi_avg_fn(1 - momentum)
        update(list(self.averaged.parameters()), [weights.detach() for weights in self.network.parameters()], step)

    def _update_statistics(self, inputs: torch.Tensor, is_first: bool) -> None:
        """Add a batch to the running statistics of the averaged network; the first batch replaces earlier ones."""
        layers = [layer for layer in self.averaged.modules() if isinstance(layer, _BatchNorm)]
        if self.frozen_statistics or not layers:
            return
        for layer in layers:
            if is_first:
                layer.reset_running_stats()
                layer.momentum = None  # the mean over all batches
            layer.train()
        with torch.no_grad(), autocast(self.choice):
            self.averaged(inputs)
        self.averaged.eval()

    def _click_channels(self, normal: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Input channels `[N, 3, H, W]` with a previous mask and clicks for a share of the batch; 0 for the others.

        The previous mask is the automatic mask (half of them), an empty mask or a distorted truth. The network predicts
        a mask from it, without gradients, and is then trained with that mask and the clicks that correct it: one round
        of the iterative training of RITM (Sofiiuk et al. 2021).

        Args:
            normal: normalised photos `[N, 3, H, W]`.
            truth: masks `[N, 1, H, W]` in {0, 1}.
        """
        shape = (normal.shape[2], normal.shape[3])
        channels = torch.zeros(len(normal), CLICK_CHANNELS, *shape)
        # For each new number of photos, cuDNN would choose its algorithms again, which takes seconds.
        count = int(self.clicks * len(normal) + self.random.random())
        clicked = sorted(int(number) for number in self.random.choice(len(normal), count, replace=False))
        wanted = {number: truth[number, 0].cpu().numpy() > 0.5 for number in clicked}
        clicks: dict[int, list[Click]] = {number: [] for number in clicked}
        for number in clicked:
            start = self.random.random()
            if start < 0.5:
                continue
            before = distorted(wanted[number], self.random) if start < 0.75 else np.zeros(shape, dtype=bool)
            clicks[number].extend(several_clicks(before, wanted[number], 3, self.random))
            channels[number] = torch.from_numpy(encode_clicks(shape, shape, clicks[number], before.astype(np.float32)))
        if clicked:
            first = torch.cat([normal[clicked], channels[clicked].to(normal.device)], dim=1)
            self.network.eval()
            with torch.no_grad(), autocast(self.choice):
                logits = self.network(first.contiguous(memory_format=self.layout))[:, 0].float().cpu().numpy()
            for number, mask in zip(clicked, logits > 0, strict=True):
                if clicks[number] and self.random.random() < 0.3:
                    continue
                clicks[number].extend(several_clicks(mask, wanted[number], 3, self.random))
                # A tenth of the photos gets clicks without a previous mask, so that clicks also count without one.
                previous = None if self.random.random() < 0.1 else mask.astype(np.float32)
                channels[number] = torch.from_numpy(encode_clicks(shape, shape, clicks[number], previous))
        return channels.to(normal.device)
