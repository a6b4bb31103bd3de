"""A network that learns: optimiser, schedule, averaged weights and the step, with MONAI's engine.

Shared by training from the start (`trainer`) and fine-tuning (`finetuner`), which differ in what they learn from and in
what they keep.
"""

from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from monai.engines import SupervisedTrainer
from monai.optimizers import WarmupCosineSchedule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from napari_skinseg.device import DeviceChoice, autocast, for_learning
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled
from napari_skinseg.models.click_channels import Click, encode_clicks
from napari_skinseg.models.network import CLICK_CHANNELS
from napari_skinseg.segmentation.simulated_clicks import distorted, several_clicks

from .losses import DEFAULT_LOSS, build_loss


class _DepthwiseInFloat32(torch.nn.Conv2d):
    """A depthwise convolution that autocast leaves alone: on CPUs its gradients take three times as long in bfloat16,
    which made a step of an EfficientNet half as long again (0.71 s instead of 0.48 s).
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


OnStep = Callable[[int, float], None]
"""Told the number of the step, from 1, and its loss."""


class Learner:
    """The moving parts of one fit.

    Args:
        network: what learns, in place.
        choice: device and precision.
        normalisation: (mean, std) per RGB channel of photos scaled to [0, 1].
        steps_per_pass: batches in a pass.
        passes: of the whole fit; the learning rate rises for 2 % of their steps and falls along a cosine.
        learning_rate: highest, of AdamW.
        weight_decay: of AdamW.
        ema: decay per step of the averaged weights.
        clicks: share of each batch that is corrected with simulated clicks, in [0, 1].
        loss: one of `losses.LOSSES`.
        frozen_statistics: keep the running statistics of batch normalisation as they are.
        seed: of the simulated clicks.
        on_step: see `OnStep`.
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
        self.choice, self.normalisation = for_learning(choice), normalisation
        # Instance normalisation copies channels-last tensors back and forth: on a CPU that costs more than it gains.
        copies = choice.device == "cpu" and any(isinstance(layer, _InstanceNorm) for layer in network.modules())
        self.layout = torch.contiguous_format if copies else torch.channels_last
        if self.choice.device == "cpu" and self.choice.precision == "bfloat16":
            for layer in network.modules():
                if type(layer) is torch.nn.Conv2d and layer.groups > 1:
                    layer.__class__ = _DepthwiseInFloat32
        self.network = network.to(torch.device(choice.device), memory_format=self.layout)  # type: ignore[call-overload]
        self.steps_per_pass, self.clicks, self.seed, self.on_step = steps_per_pass, clicks, seed, on_step
        self.frozen_statistics = frozen_statistics
        # Under torchrun every process learns from its own batches, and gradients are averaged over all of them.
        self.several = idist.get_world_size() > 1
        self.shared: torch.nn.Module = idist.auto_model(self.network) if self.several else self.network
        steps = steps_per_pass * passes
        self.optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
        self.schedule = WarmupCosineSchedule(self.optimizer, warmup_steps=max(1, steps // 50), t_total=steps)
        self.scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "float16")
        self.loss = build_loss(loss)
        self.losses: list[float] = []
        self.random = np.random.default_rng(seed)
        self.token: CancelToken = NeverCancelled()
        self.trainer = SupervisedTrainer(
            device=torch.device(choice.device),
            max_epochs=passes,
            train_data_loader=[None] * steps_per_pass,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=self.loss,
            iteration_update=self._step,
        )
        # A new average would lag far behind quickly moving weights, so it starts fast and slows down.
        average = EMAHandler(
            self.network, momentum=1 - ema, momentum_warmup=0.1, warmup_iters=min(1000, max(1, steps // 5))
        )
        average.attach(self.trainer, event=Events.ITERATION_COMPLETED)
        self.averaged: torch.nn.Module = average.ema_model
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)

    def one_pass(self, number: int, loader: Any, token: CancelToken) -> float:
        """Learn from the batches of `loader`, pass `number` (0 is the first), until done or cancelled.

        Batches hold "image" uint8 [N, 3, H, W] and "mask" uint8 [N, 1, H, W].

        Returns:
            The mean loss of the steps that were made.

        Raises:
            BadInput: the loss stopped being a number.
            torch.OutOfMemoryError: the batches are too large for the device.
        """
        self.losses, self.token = [], token
        self.random = np.random.default_rng((self.seed, number, idist.get_rank()))
        self.trainer.data_loader = loader
        state = self.trainer.state
        state.epoch, state.epoch_length, state.max_epochs = number, self.steps_per_pass, number + 1
        state.iteration = number * self.steps_per_pass
        self.trainer.run()
        return float(np.mean(self.losses)) if self.losses else float("nan")

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "ema": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        # The length of the fit may have been changed since; the schedule's own memory of it must not win.
        length = {name: getattr(self.schedule, name) for name in ("t_total", "warmup_steps")}
        self.schedule.load_state_dict({**state["schedule"], **length})
        self.scaler.load_state_dict(state["scaler"])

    def close(self) -> None:
        """Give the device's memory back."""
        self.optimizer.state.clear()
        self.network.cpu()
        self.averaged.cpu()
        if self.choice.device == "cuda":
            torch.cuda.empty_cache()

    def _step(self, engine: Any, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        image = batch["image"].to(self.choice.device, non_blocking=True)
        truth = batch["mask"].to(self.choice.device, non_blocking=True).float()
        mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in self.normalisation)
        normal = (image.float() / 255 - mean) / std
        inputs = torch.cat([normal, self._guidance(normal, truth)], dim=1).contiguous(memory_format=self.layout)
        self._teach()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.choice):
            logits = self.shared(inputs)
        loss = self.loss(logits.float(), truth)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return {"loss": float(loss.detach())}

    def _teach(self) -> None:
        self.network.train()
        if self.frozen_statistics:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def _guidance(self, normal: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Guidance channels [N, 3, H, W] for a batch: nothing for most photos, a previous mask and clicks for some.

        Those begin from the automatic mask (half of them), from nothing or from a distorted truth. The network answers
        these first clicks without being taught, and is then taught on its answer and the clicks that correct it: one
        round of RITM's iterative training.
        """
        shape = (normal.shape[2], normal.shape[3])
        channels = torch.zeros(len(normal), CLICK_CHANNELS, *shape)
        some = [number for number in range(len(normal)) if self.random.random() < self.clicks]
        wanted = {number: truth[number, 0].cpu().numpy() > 0.5 for number in some}
        clicks: dict[int, list[Click]] = {number: [] for number in some}
        for number in some:
            begin = self.random.random()
            if begin < 0.5:
                continue
            before = distorted(wanted[number], self.random) if begin < 0.75 else np.zeros(shape, dtype=bool)
            clicks[number].extend(several_clicks(before, wanted[number], 3, self.random))
            channels[number] = torch.from_numpy(encode_clicks(shape, shape, clicks[number], before.astype(np.float32)))
        answered = [number for number in some if not clicks[number] or self.random.random() < 0.7]
        if answered:
            first = torch.cat([normal[answered], channels[answered].to(normal.device)], dim=1)
            self.network.eval()
            with torch.no_grad(), autocast(self.choice):
                answers = self.network(first.contiguous(memory_format=self.layout))[:, 0].float().cpu().numpy()
            for number, answer in zip(answered, answers > 0, strict=True):
                clicks[number].extend(several_clicks(answer, wanted[number], 3, self.random))
                # Sometimes the mask is lost, so that clicks are obeyed without one too.
                previous = None if self.random.random() < 0.1 else answer.astype(np.float32)
                channels[number] = torch.from_numpy(encode_clicks(shape, shape, clicks[number], previous))
        return channels.to(normal.device)

    def _after_step(self, engine: Any) -> None:
        loss = engine.state.output["loss"]
        if not np.isfinite(loss):
            raise BadInput(
                "The loss is no longer a number; the run stopped at its last checkpoint. Lower the learning rate."
            )
        self.losses.append(loss)
        self.on_step(engine.state.iteration, loss)
        stop = self.token.is_set()
        if self.several:  # all stop at the same step: who goes on alone waits for the others for ever
            stop = bool(idist.all_reduce(int(stop), op="MAX"))
        if stop:
            engine.terminate()
