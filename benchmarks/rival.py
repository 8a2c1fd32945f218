"""A plain rival: a small class-conditional diffusion model of digits in plain PyTorch, without our engine.

    python benchmarks/rival.py ASKED ARRAYS

ASKED is JSON: seconds of training, a seed, where samples go; ARRAYS an .npz of images and labels. It is run by
benchmarks/time_to_quality.py in a process of its own, and prints what it took as JSON.

A U-Net of 1.1 M parameters behind pixel-unshuffle by 4, width 64, doubled once, no attention; EDM preconditioning,
ln σ ~ N(−0.8, 1.2²), AdamW 2e-3 with warm-up and linear decay, batch 64, one EMA, 10 % label dropout, 18 Heun steps,
w = 1.5.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

COUNT, CLASSES = 1000, 10
WIDTH, EMBEDDING, FOLD, BATCH = 64, 96, 4, 64
RATE, WARMUP, LABEL_DROPOUT = 2e-3, 0.05, 0.1
P_MEAN, P_STD = -0.8, 1.2
HEUN_STEPS, GUIDANCE, SIGMA_MIN, SIGMA_MAX, RHO = 18, 1.5, 0.002, 80.0, 7.0


class Block(nn.Module):
    """Two convolutions around a shortcut; the embedding scales and shifts between them."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.embed = nn.Linear(EMBEDDING, 2 * c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.embed(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.shortcut(x) + h


class RivalNet(nn.Module):
    """x: [b 1 28 28], c_noise: [b], label: [b] (10: none) → [b 1 28 28]. Works on 16 channels of 7 × 7, then 4 × 4."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), WIDTH // 2)))
        self.noise = nn.Sequential(nn.Linear(WIDTH, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.label = nn.Embedding(CLASSES + 1, EMBEDDING)
        self.first = nn.Conv2d(FOLD**2, WIDTH, 3, padding=1)
        self.fine = nn.ModuleList([Block(WIDTH, WIDTH), Block(WIDTH, WIDTH)])
        self.down = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList([Block(2 * WIDTH, 2 * WIDTH), Block(2 * WIDTH, 2 * WIDTH)])
        self.up = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.merge = Block(2 * WIDTH, WIDTH)
        self.last_norm, self.last = nn.GroupNorm(8, WIDTH), nn.Conv2d(WIDTH, FOLD**2, 3, padding=1)

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor) -> Tensor:
        angles = c_noise[:, None] * self.frequencies
        embedding = F.silu(self.noise(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.label(label))
        h = self.first(F.pixel_unshuffle(x, FOLD))
        for block in self.fine:
            h = block(h, embedding)
        skip = h
        h = self.down(h)
        for block in self.coarse:
            h = block(h, embedding)
        h = self.up(F.interpolate(h, skip.shape[-2:]))
        h = self.merge(torch.cat([h, skip], dim=1), embedding)
        return F.pixel_shuffle(self.last(F.silu(self.last_norm(h))), FOLD)


def begin(network: RivalNet, random: torch.Generator) -> None:
    """The usual first weights, from a generator of their own; the last convolution starts as zero."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=random)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, generator=random)
    nn.init.zeros_(network.last.weight)


def denoised(network: nn.Module, x: Tensor, sigma: Tensor, label: Tensor, spread: float) -> Tensor:
    """EDM's preconditioning (Karras et al. 2022, Table 1). sigma: [b]."""
    s = sigma[:, None, None, None]
    whole = (s**2 + spread**2).sqrt()
    out = network(x / whole, sigma.log() / 4, label)
    return x * (spread / whole) ** 2 + out * s * spread / whole


def train_rival(x: Tensor, y: Tensor, budget: float, seed: int) -> tuple[RivalNet, float, int, float]:
    """(averaged network, spread of the data, steps, seconds): the rate follows the clock, so that it ends at 0."""
    random = torch.Generator().manual_seed(seed)
    network, spread = RivalNet(), float(x.std())
    begin(network, random)
    average = copy.deepcopy(network).requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    began, step = time.perf_counter(), 0
    while (progress := (time.perf_counter() - began) / budget) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))
        chosen = torch.randint(len(x), (BATCH,), generator=random)
        sigma = (P_MEAN + P_STD * torch.randn(BATCH, generator=random)).exp()
        dropped = torch.rand(BATCH, generator=random) < LABEL_DROPOUT
        label = torch.where(dropped, CLASSES, y[chosen])
        noise = torch.randn(x[chosen].shape, generator=random)
        found = denoised(network, x[chosen] + sigma[:, None, None, None] * noise, sigma, label, spread)
        weight = (sigma**2 + spread**2) / (sigma * spread) ** 2
        loss = (weight[:, None, None, None] * (found - x[chosen]) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        kept = min(0.999, (1 + step) / (10 + step))
        for mean, now in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(now.detach(), 1 - kept)
    return average, spread, step, time.perf_counter() - began


@torch.no_grad()
def draw_rival(network: nn.Module, spread: float, labels: Tensor, seed: int) -> np.ndarray:
    """Heun's method over Karras' levels, guided. labels: [n] → [n 1 28 28] in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 1, HEUN_STEPS)
    levels = (SIGMA_MAX ** (1 / RHO) + ramp * (SIGMA_MIN ** (1 / RHO) - SIGMA_MAX ** (1 / RHO))) ** RHO
    levels = [*levels.tolist(), 0.0]
    finished = []
    for label in labels.split(250):
        both = torch.cat([label, torch.full_like(label, CLASSES)])

        def slope(x: Tensor, sigma: float, both: Tensor = both) -> Tensor:
            given, free = denoised(network, x.repeat(2, 1, 1, 1), torch.full((len(both),), sigma), both, spread).chunk(
                2
            )
            return (x - free - GUIDANCE * (given - free)) / sigma

        x = levels[0] * torch.randn(len(label), 1, 28, 28, generator=random)
        for sigma, lower in itertools.pairwise(levels):
            d = slope(x, sigma)
            there = x + (lower - sigma) * d
            x = x + (lower - sigma) * (d + slope(there, lower)) / 2 if lower else there
        finished.append(x.clamp(-1, 1))
    return torch.cat(finished).numpy()


def main() -> None:
    imported = time.time()
    asked = json.loads(sys.argv[1])
    with np.load(sys.argv[2]) as real:
        x, y = torch.from_numpy(real["images"]), torch.from_numpy(real["labels"])
    before = time.time() - imported
    network, spread, steps, seconds = train_rival(x, y, asked["budget"], asked["seed"])
    labels = torch.arange(COUNT) % CLASSES
    drawn = draw_rival(network, spread, labels, 20_000 + asked["seed"])
    np.savez(asked["samples"], images=drawn, labels=labels.numpy())
    told = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": steps,
        "seconds": seconds,
        "import": imported - asked["launched"],
        "before": before,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
