"""Kept pixels as the numbers that networks see."""

from __future__ import annotations

import torch
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 0…255 or uint16 0…65,535 → float32 in [-1, 1]."""
    white = 65535 if pixels.dtype == torch.uint16 else 255
    return pixels.float() / (white / 2) - 1
