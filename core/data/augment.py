"""Random changes to training images: small ones that leave them images of the same kind, and large ones that the
network is told of.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTATION_LABELS = 9
"""Numbers that tell the network how a training image was changed."""

SCALE, STRETCH, SHIFT = 0.2, 0.2, 0.125
"""Spread of log2 of size and of aspect, and of the shift as a share of width and height (Karras et al. 2022, F.2)."""
REACH, ROLL_OFF = 6, 0.5
"""Of the resampling filter: pixels to each side, and its excess bandwidth."""


def augment(x: Tensor, shift: int, generator: torch.Generator, *, flip: bool) -> Tensor:
    """x: [b c h w] → the same, each image moved by up to `shift` pixels (edges repeated) and perhaps mirrored."""
    if shift:
        b, _, h, w = x.shape
        moves = torch.randint(0, 2 * shift + 1, (b, 2), generator=generator).tolist()
        padded = functional.pad(x, (shift,) * 4, mode="replicate")
        x = torch.stack(
            [image[:, top : top + h, left : left + w] for image, (top, left) in zip(padded, moves, strict=True)]
        )
    if flip:
        mirrored = torch.rand(x.shape[0], generator=generator) < 0.5
        x = torch.where(mirrored.reshape(-1, 1, 1, 1).to(x.device), x.flip(-1), x)
    return x


def augmented(x: Tensor, p: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x: [b c h w] → (changed images, labels [b 9] float32): augmentation that conditioning keeps out of samples.

    Karras et al. 2022, App. F.2: mirrored left to right half of the time; and each with chance p: mirrored top to
    bottom half of the time, scaled by 2^(0.2 n), turned by up to ±π, stretched by 2^(0.2 n) along a random axis, and
    shifted by 0.125 n of width and height. Labels: both mirrorings (0 or 1), n of the scale, cos - 1 and sin of the
    angle, n of the stretch times cos and sin of twice its axis (the axis at φ + π is the same), and n of both shifts.
    Zeros, which draw clean images, mean that nothing was done. At p = 0 nothing is.

    generator: a CPU one; an image's numbers are drawn whether they are used or not, so p does not change them.
    """
    b = len(x)
    if p == 0:
        return x, torch.zeros(b, AUGMENTATION_LABELS, device=x.device)
    chance, uniform = torch.rand(b, 9, generator=generator).split((5, 4), dim=1)
    normal = torch.randn(b, 4, generator=generator)
    mirrored = (uniform[:, 0] < 0.5).float()
    done = (chance < p).float()
    upended = done[:, 0] * (uniform[:, 1] < 0.5)
    scale = done[:, 1] * normal[:, 0]
    angle = done[:, 2] * (2 * uniform[:, 2] - 1) * math.pi
    stretch, axis = done[:, 3] * normal[:, 1], 2 * math.pi * uniform[:, 3]
    shift = done[:, 4:] * normal[:, 2:]
    labels = torch.stack(
        [mirrored, upended, scale, angle.cos() - 1, angle.sin(), stretch * axis.cos(), stretch * axis.sin()], dim=1
    )
    labels = torch.cat([labels, shift], dim=1).to(x.device)

    x = torch.where(_each(mirrored, x), x.flip(-1), x)
    x = torch.where(_each(upended, x), x.flip(-2), x)
    moved = (labels[:, 2:] != 0).any(dim=1)
    if moved.any():
        linear = _rotation(angle) @ _stretching(STRETCH * stretch, axis / 2) * (2 ** (SCALE * scale))[:, None, None]
        x = x.clone()
        x[moved] = transformed(x[moved], linear.to(x.device)[moved], SHIFT * shift.to(x.device)[moved])
    return x, labels


def transformed(x: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Images of points q at A q + t, about the middle: x [b c h w], linear A [b 2 2] acting on (right, down) in
    pixels, shift t [b 2] in widths and heights. Edges are mirrored outward. One resampling, antialiased.

    The image is brought to twice its resolution by a root-raised-cosine filter, read there at the points it is wanted
    at, and brought back by the same filter: the pair is a Nyquist filter, so that without a change, and with turns by
    90°, every pixel comes back.
    """
    h, w = x.shape[-2:]
    fine = _doubling(h).to(x) @ x @ _doubling(w).to(x).T
    across, down = ((torch.arange(1 - 2 * REACH, 2 * (n + REACH) - 1) + 0.5) / 2 - n / 2 for n in (w, h))
    points = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).to(x)
    half = torch.tensor([w / 2, h / 2]).to(x)
    back = torch.linalg.inv(linear).to(x)
    sources = (points - (2 * half * shift)[:, None, None, :]) @ back.transpose(1, 2)[:, None]
    read = functional.grid_sample(fine, sources / half, "bilinear", "reflection", align_corners=False)
    return _halving(h).to(x) @ read @ _halving(w).to(x).T


def _each(flags: Tensor, x: Tensor) -> Tensor:
    return flags.bool().reshape(-1, 1, 1, 1).to(x.device)


def _rotation(angle: Tensor) -> Tensor:
    """[b] → [b 2 2], anticlockwise as seen, since the second coordinate points down."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)


def _stretching(log2: Tensor, axis: Tensor) -> Tensor:
    """[b] → [b 2 2]: 2^log2 along an axis at that angle, and its inverse across, so that the area stays."""
    turn = _rotation(axis)
    return turn @ torch.diag_embed(2 ** torch.stack([log2, -log2], -1)) @ turn.transpose(1, 2)


def _root_raised_cosine(t: Tensor) -> Tensor:
    """At t pixels from the middle, cut off `REACH` away; t is never 0 or ±1 / (4 `ROLL_OFF`)."""
    beta = ROLL_OFF
    top = torch.sin(math.pi * t * (1 - beta)) + 4 * beta * t * torch.cos(math.pi * t * (1 + beta))
    return torch.where(t.abs() < REACH, top / (math.pi * t * (1 - (4 * beta * t) ** 2)), 0)


@lru_cache(maxsize=8)
def _doubling(n: int) -> Tensor:
    """[2n n] float32: n pixels, mirrored beyond their ends, to twice their resolution; rows sum to 1."""
    fine = (torch.arange(2 * n, dtype=torch.float64) - 0.5) / 2
    at = torch.arange(-REACH, n + REACH)
    inside = at % (2 * n)
    inside = torch.where(inside < n, inside, 2 * n - 1 - inside)
    taps = _root_raised_cosine(fine[:, None] - at)
    folded = torch.zeros(2 * n, n, dtype=torch.float64).index_add_(1, inside, taps)
    return (folded / folded.sum(1, keepdim=True)).float()


@lru_cache(maxsize=8)
def _halving(n: int) -> Tensor:
    """[n 2(n+2R-1)] float32, where R is `REACH`: the way back, from pixels with a margin; rows sum to 1."""
    fine = (torch.arange(1 - 2 * REACH, 2 * (n + REACH) - 1, dtype=torch.float64) - 0.5) / 2
    taps = _root_raised_cosine(fine - torch.arange(n)[:, None])
    return (taps / taps.sum(1, keepdim=True)).float()
