"""An independent judge: a small classifier that has only ever seen real images, and no held-out one.

It shares nothing with the generator that it judges but the layers' arithmetic. Of 1,000 held-out digits it knows
98 to 99 %, after a minute of training on two cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..denoisers.layers import Conv2d, Linear, initialise
from ..randomness import generator
from .turns import Turn

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .images import Images

BLOCKS = (32, 64, 128)
FEATURES = 64
LARGEST = 64
"""Longer sides are averaged down to this many pixels before the judge looks."""
EPOCHS, FEWEST_STEPS, MOST_STEPS, BATCH = 24, 400, 6000, 100
"""Epochs over the training images, within so many steps of so many images: for small sets more, for large ones less."""
PEAK, RISE = 3e-3, 0.15
"""The highest learning rate, and the share of the steps over which it rises."""
SMOOTHING = 0.02
JUDGED = 250
"""Images that are judged in one turn."""


def classifier_recipe(epochs: int | None, seed: int) -> dict[str, Any]:
    """All that decides, beside images, labels and the machine, what `train_classifier` makes of them; as JSON can."""
    return {
        "blocks": BLOCKS,
        "features": FEATURES,
        "largest": LARGEST,
        "steps": [EPOCHS, FEWEST_STEPS, MOST_STEPS, BATCH],
        "rate": [PEAK, RISE],
        "smoothing": SMOOTHING,
        "epochs": epochs,
        "seed": seed,
    }


class Classifier(nn.Module):
    """Blocks of 3×3 convolution, batch norm, ReLU and max-pooling; 64 ReLU features; a logit for each class.

    channels, size (height, width): of its images; classes: their number. Parameters are empty until `initialise`.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        gain = math.sqrt(2.0)  # He et al. 2015: keeps the mean square through a ReLU
        self.convolutions = nn.ModuleList(
            Conv2d(c_in, c_out, bias=False, gain=gain) for c_in, c_out in zip((channels, *BLOCKS), BLOCKS, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in BLOCKS)
        height, width = reduced_size(size)
        for _ in BLOCKS:
            height, width = max(1, height // 2), max(1, width // 2)
        self.hidden = Linear(BLOCKS[-1] * height * width, FEATURES, gain=gain)
        self.logits = Linear(FEATURES, classes, gain=gain)

    def features(self, x: Tensor) -> Tensor:
        """x: [n c h w] in [-1, 1] → [n 64], not negative."""
        x = reduced(x)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
            x = F.max_pool2d(x, (min(2, x.shape[2]), min(2, x.shape[3])))  # a side of one pixel stays
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """x: [n c h w] in [-1, 1] → logits [n classes]."""
        return self.logits(self.features(x))


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) with the longer side at most `LARGEST`."""
    shrink = min(1.0, LARGEST / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def reduced(x: Tensor) -> Tensor:
    """x: [n c h w], averaged over areas to its reduced size; small images as they are."""
    height, width = x.shape[-2:]
    size = reduced_size((height, width))
    return x if size == (height, width) else F.interpolate(x, size, mode="area")


def varied(x: Tensor, random: torch.Generator) -> Tensor:
    """x: [n c h w], each image turned by up to 12°, scaled by up to 10 % and moved by up to 7 % its own way."""

    def uniform(reach: float) -> Tensor:
        return torch.empty(len(x)).uniform_(-reach, reach, generator=random)

    angle, zoom = uniform(math.radians(12)), torch.exp(uniform(0.1))
    across, down = uniform(2 / 14), uniform(2 / 14)  # the grid's own units: the image is 2 wide
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    matrix = torch.stack([cos, -sin, across, sin, cos, down], dim=1).unflatten(1, (2, 3))
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train_classifier(
    images: Images,
    labels: np.ndarray,
    classes: int,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> Generator[Turn, None, Classifier]:
    """Trains on images [n c h w] with labels [n] in 0 … classes − 1; yields after every step.

    AdamW, one rise and fall of the rate, light augmentation, smoothed labels. epochs: passes over the images,
    by default as many as suit their number. The same seed on the same CPU and threads gives the same classifier.
    """
    device = device or torch.device("cpu")
    _, channels, height, width = images[:1].shape
    network = Classifier(channels, (height, width), classes)
    initialise(network, generator(seed, "classifier"))
    network.to(device)
    batch = min(BATCH, len(images))
    per_epoch = len(images) // batch
    steps = per_epoch * epochs if epochs else min(max(EPOCHS * per_epoch, FEWEST_STEPS), MOST_STEPS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=0.01)
    order = np.zeros(0, np.int64)
    for step in range(steps):
        epoch, at = divmod(step, per_epoch)
        if at == 0:
            order = torch.randperm(len(images), generator=generator(seed, "classifier order", 0, epoch)).numpy()
        chosen = order[at * batch : (at + 1) * batch]
        x = varied(reduced(torch.from_numpy(images[chosen])), generator(seed, "classifier changes", 0, step))
        y = torch.from_numpy(labels[chosen]).long()
        progress = step / steps
        optimizer.param_groups[0]["lr"] = PEAK * min(progress / RISE, (1 - progress) / (1 - RISE))
        _learn(network, optimizer, x.to(device), y.to(device))
        yield Turn("Training the classifier", step + 1, steps)
    return network.eval()


@torch.enable_grad()
def _learn(network: Classifier, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    network.train()
    loss = F.cross_entropy(network(x), y, label_smoothing=SMOOTHING)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@dataclass(frozen=True)
class Judgement:
    """answers: [n] class numbers; features: [n 64] float64."""

    answers: np.ndarray
    features: np.ndarray


@torch.no_grad()
def judge(network: Classifier, images: np.ndarray) -> Judgement:
    """images: [n c h w] in [-1, 1]; what is beyond is cut off."""
    network.eval()
    x = torch.from_numpy(images).to(network.hidden.weight.device)
    features = network.features(x.clamp(-1, 1))
    return Judgement(network.logits(features).argmax(1).cpu().numpy(), features.double().cpu().numpy())


def judge_in_turns(network: Classifier, images: Images, what: str) -> Generator[Turn, None, Judgement]:
    """As `judge`, for sets of any size. what: the turn's words."""
    found = []
    for start in range(0, len(images), JUDGED):
        found.append(judge(network, images[start : start + JUDGED]))
        yield Turn(what, min(start + JUDGED, len(images)), len(images))
    return Judgement(
        np.concatenate([each.answers for each in found]), np.concatenate([each.features for each in found])
    )
