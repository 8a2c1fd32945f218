"""Ours and three other libraries, each ready to be trained and to draw: what benchmarks/peers.py compares.

Each peer has a U-Net of like parameters (within 15 %) and is trained as its own examples do it: its loss, optimizer,
clipping and averaging of weights, all with class labels. Learning rates are higher than in the examples, for the time
is short (`peers.py --rate` tries others), and all peers are given the cosine decay of diffusers' example. Batches are
of one size, and images lie in memory for them. All draw with the recipe's guidance, so that one call asks the network
with and without the label. In bfloat16 a peer runs under autocast; ours draws in float32 whatever it was trained in.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import MagicMock

import accelerate
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from ema_pytorch import EMA
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from imagen_workbench.core.models import Model
from imagen_workbench.core.training.loop import train
from imagen_workbench.core.worker.starting import Setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_workbench.core import ConditioningScheme, Recipe
    from imagen_workbench.core.data.cache import Dataset

TOGETHER, LIKE = 64, 0.15
"""Images that a peer draws at once; how far a network's parameters may be from ours."""
FORMATS = {"float32": None, "bfloat16": torch.bfloat16}


def without_torchvision(name: str) -> Any:
    """Imports a peer that wants torchvision for its image folders, which are not used here.

    Its wheels are for CUDA and do not load beside a torch without; then something stands in while the peer is imported.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = MagicMock()
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["torchvision"]


lucid = without_torchvision("denoising_diffusion_pytorch.classifier_free_guidance")
small = without_torchvision("smalldiffusion")


@dataclass(frozen=True)
class Task:
    """What all learn. x: [n c h w] in [-1, 1]; y: [n] classes; both on the device."""

    recipe: Recipe
    data: Dataset
    scheme: ConditioningScheme
    device: torch.device
    x: Tensor
    y: Tensor
    target: int
    """Parameters of our network."""

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    @property
    def guidance(self) -> float:
        return self.recipe.sampling.guidance


def like(make: Callable[[int], nn.Module], target: int) -> nn.Module:
    """The network, by its width, whose parameters are nearest to the target."""

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return count(make(width))

    nearest = min(range(32, 257, 32), key=lambda width: abs(parameters(width) - target))
    if abs(parameters(nearest) / target - 1) > LIKE:
        raise SystemExit(f"No width gives {target:,} parameters within {LIKE:.0%}")
    return make(nearest)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- those who are compared -----------------------------------------------------------------------


class Ours:
    """The recipe, in the training loop of core, drawn as `Model.draw` draws."""

    name = "ours"
    own: ClassVar[str] = "as the recipe"

    def __init__(self, task: Task, number_format: str, _rate: float | None = None) -> None:
        self._task = task
        self.number_format = number_format
        self._recipe = task.recipe.with_values({"training.precision": number_format})
        self.parameters = task.target

    def begin(self, steps: int) -> None:
        task = self._task
        self._state = Setup(self._recipe, task.data, task.scheme, task.device).new_state(steps)
        self._ticks = train(self._state, task.data, self._recipe, task.device, steps)

    def step(self) -> None:
        while not next(self._ticks).whole:
            pass

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()  # the model sees to its number format itself

    def draw(self, labels: Tensor, calls: int | None) -> np.ndarray:
        task = self._task
        weights = {float(name): average for name, average in self._state.emas.items()}
        model = Model("", "", self._recipe, task.scheme, self._state.model, weights, task.device)
        chosen = {} if calls is None else {"sampler": "dpmpp-2m", "steps": calls}
        texts = [task.data.classes[label] for label in labels.tolist()]
        return np.concatenate([drawn.arrays for drawn in model.draw_all(texts, len(texts), **chosen)])


class Peer(ABC):
    """Another library's network and method. own: its default way of drawing, in words; own_calls: network calls of it.

    rate: the highest learning rate; clip: largest gradient norm.
    """

    name: ClassVar[str]
    own: ClassVar[str]
    own_calls: ClassVar[int]
    rate: ClassVar[float]
    clip: ClassVar[float] = 1.0

    def __init__(self, task: Task, number_format: str, rate: float | None = None) -> None:
        self.task, self.number_format, self._rate = task, number_format, rate or self.rate
        self.parameters = count(self.network())

    @abstractmethod
    def network(self) -> nn.Module: ...

    @abstractmethod
    def prepare(self, network: nn.Module) -> torch.optim.Optimizer:
        """Takes the network in; makes the average of its weights and the optimizer."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor) -> Tensor: ...

    @abstractmethod
    def average(self) -> None:
        """After each step."""

    @abstractmethod
    def images(self, labels: Tensor, calls: int | None) -> Tensor:
        """[n c h w] in [-1, 1], from the averaged weights. calls: how many for each image, None for its own way."""

    def begin(self, steps: int) -> None:
        """Before the first of so many steps, from new weights."""
        torch.manual_seed(0)  # noqa: TID251 - the peers draw from the global generator
        self._learner = self.network().to(self.task.device).train()
        self._optimizer = self.prepare(self._learner)
        self._schedule = get_cosine_schedule_with_warmup(self._optimizer, max(1, steps // 20), steps)

    def step(self) -> None:
        task = self.task
        chosen = torch.randint(len(task.x), (task.recipe.training.batch,), device=task.device)
        self._optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss(task.x[chosen], task.y[chosen])
        loss.backward()
        nn.utils.clip_grad_norm_(self._learner.parameters(), self.clip)
        self._optimizer.step()
        self._schedule.step()
        self.average()

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = FORMATS[self.number_format]
        return torch.autocast(self.task.device.type, dtype, enabled=dtype is not None)

    @torch.no_grad()
    def draw(self, labels: Tensor, calls: int | None) -> np.ndarray:
        parts = [self.images(part, calls) for part in labels.to(self.task.device).split(TOGETHER)]
        return torch.cat(parts).float().clamp(-1, 1).cpu().numpy()


class Diffusers(Peer):
    """UNet2DModel as in its example of unconditional training, with class labels: eps on a linear schedule."""

    name, own, own_calls, rate = "diffusers", "DDIM, 50 steps", 50, 2e-3

    def network(self) -> nn.Module:
        channels, size = self.task.x.shape[1:3]

        def make(width: int) -> nn.Module:
            return UNet2DModel(
                sample_size=size,
                in_channels=channels,
                out_channels=channels,
                block_out_channels=(width, width, 2 * width),
                down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
                num_class_embeds=self.task.classes + 1,
            )

        return like(make, self.task.target)

    def prepare(self, network: nn.Module) -> torch.optim.Optimizer:
        self._network, self._drawn = network, copy.deepcopy(network).eval()
        self._noising = DDPMScheduler()
        self._ema = EMAModel(network.parameters(), use_ema_warmup=True, power=0.75, foreach=True)
        return torch.optim.AdamW(network.parameters(), self._rate, betas=(0.95, 0.999), weight_decay=1e-6)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        dropped = torch.rand(len(y), device=y.device) < self.task.recipe.conditioning.dropout
        noise, t = torch.randn_like(x), torch.randint(1000, (len(x),), device=x.device)
        noisy = self._noising.add_noise(x, noise, t)
        found = self._network(noisy, t, class_labels=torch.where(dropped, self.task.classes, y)).sample
        return nn.functional.mse_loss(found.float(), noise)

    def average(self) -> None:
        self._ema.step(self._network.parameters())

    def images(self, labels: Tensor, calls: int | None) -> Tensor:
        self._ema.copy_to(self._drawn.parameters())
        scheduler = DDIMScheduler() if calls is None else DPMSolverMultistepScheduler(thresholding=True)
        scheduler.set_timesteps(calls or self.own_calls, device=labels.device)
        both = torch.cat([labels, torch.full_like(labels, self.task.classes)])
        x = torch.randn(len(labels), *self.task.x.shape[1:], device=labels.device)
        for t in scheduler.timesteps:
            with_it, without = self._drawn(torch.cat([x, x]), t, class_labels=both).sample.float().chunk(2)
            x = scheduler.step(without + self.task.guidance * (with_it - without), t, x).prev_sample
        return x


class DenoisingDiffusion(Peer):
    """denoising-diffusion-pytorch's classifier-free U-Net and GaussianDiffusion, v on a cosine schedule; its Trainer's
    Adam and average.
    """

    name, own, own_calls, rate = "denoising-diffusion", "DDIM, 250 steps", 250, 1e-3

    def network(self) -> nn.Module:
        channels, size = self.task.x.shape[1:3]
        settings = {"num_classes": self.task.classes, "cond_drop_prob": self.task.recipe.conditioning.dropout}
        unet = like(lambda dim: lucid.Unet(dim, dim_mults=(1, 1, 2), channels=channels, **settings), self.task.target)
        return lucid.GaussianDiffusion(
            unet, image_size=size, objective="pred_v", sampling_timesteps=self.own_calls, ddim_sampling_eta=0.0
        )

    def prepare(self, network: nn.Module) -> torch.optim.Optimizer:
        self._diffusion, self._ema = network, EMA(network, beta=0.995, update_every=10)
        return torch.optim.Adam(network.parameters(), self._rate, betas=(0.9, 0.99))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return self._diffusion((x + 1) / 2, classes=y)

    def average(self) -> None:
        self._ema.update()

    def images(self, labels: Tensor, calls: int | None) -> Tensor:
        drawing: Any = self._ema.ema_model.eval()
        drawing.sampling_timesteps = calls or self.own_calls
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return 2 * drawing.sample(labels, cond_scale=self.task.guidance) - 1


class SmallDiffusion(Peer):
    """smalldiffusion's scaled U-Net as in its example of FashionMNIST: eps on log-linear levels, accelerated DDIM."""

    name, own, own_calls, rate = "smalldiffusion", "gam 1.6, 20 steps", 20, 1e-3
    clip = math.inf

    def network(self) -> nn.Module:
        channels, size = self.task.x.shape[1:3]
        embed = without_torchvision("smalldiffusion.model").CondEmbedderLabel
        dropout = self.task.recipe.conditioning.dropout

        def make(width: int) -> nn.Module:
            cond = embed(4 * width, self.task.classes, dropout)
            kind, mults = small.Scaled(small.Unet), (1, 1, 2)
            return kind(size, channels, channels, width, mults, attn_resolutions=(size // 4,), cond_embed=cond)

        return like(make, self.task.target)

    def prepare(self, network: nn.Module) -> torch.optim.Optimizer:
        self._network = network
        self._ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
        self._levels = small.ScheduleLogLinear(800, sigma_min=0.01, sigma_max=20)
        self._accelerator = accelerate.Accelerator(cpu=self.task.device.type == "cpu")
        return torch.optim.AdamW(network.parameters(), self._rate)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        x, sigma, noise, cond = small.generate_train_sample((x, y), self._levels, conditional=True)
        return type(self._network).get_loss(self._network, x, sigma, noise, cond=cond)

    def average(self) -> None:
        self._ema.update_parameters(self._network)

    def images(self, labels: Tensor, calls: int | None) -> Tensor:
        *_, x = small.samples(
            self._ema.module,
            self._levels.sample_sigmas(calls or self.own_calls),
            gam=1.6,
            cfg_scale=self.task.guidance - 1,
            batchsize=len(labels),
            cond=labels,
            accelerator=self._accelerator,
        )
        return x


KINDS: tuple[type[Ours | Peer], ...] = (Ours, Diffusers, DenoisingDiffusion, SmallDiffusion)
