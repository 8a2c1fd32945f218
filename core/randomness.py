"""All randomness is a function of (seed, purpose, attempt, counter); torch's global generator is the person's."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, purpose: str, attempt: int = 0, counter: int = 0) -> torch.Generator:
    """A CPU generator that depends on these four and nothing else.

    purpose: what the numbers are for ("noise", "order", …); attempt: rises with each roll-back of a run;
    counter: images seen, or an image's index.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{attempt}/{counter}".encode()).digest()
    made = torch.Generator("cpu")
    made.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return made


class ImageNoise:
    """Standard normal noise for the images `indices` of a draw: image k's depends on seed and k alone.

    Each call gives the next noise of each image, [b …] like `x`, on its device and of its type.
    """

    def __init__(self, seed: int, indices: tuple[int, ...], purpose: str = "draw") -> None:
        self._generators = [generator(seed, purpose, 0, index) for index in indices]

    def __call__(self, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        """shape: that of one image. Drawn in float32 on the CPU, so that no device changes it."""
        noise = torch.stack([torch.randn(shape, generator=each) for each in self._generators])
        return noise if like is None else noise.to(like.device, like.dtype)
