"""A number as waves: features by which a network tells near values apart."""

from __future__ import annotations

import torch
from torch import Tensor

OCTAVES = 4
WIDTH = 2 * OCTAVES


def octaves(share: Tensor) -> Tensor:
    """[b] in [0, 1] → [b WIDTH]: sine and cosine of half a turn, one, two and four."""
    turns = share[:, None] * torch.pi * 2.0 ** torch.arange(OCTAVES, device=share.device, dtype=share.dtype)
    return torch.cat([turns.sin(), turns.cos()], 1)
