"""Random changes to training images that leave them images of the same kind."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
