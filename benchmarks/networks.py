"""How much of the machine a training step uses: images/s and FLOP/s, beside the fastest matrix product.

    python benchmarks/networks.py [--seconds 10] [--out networks.json] [--profile]

One step is forward, backward and optimizer on random images, for the recipe `digits` and for a patch transformer of
about as many parameters, in float32 and in bfloat16. The peak is the fastest square product of several sizes, in the
same format and in the same run. FLOP are those of matrix products, convolutions and attention (two for a multiply and
an add), counted by torch over forward and backward, and of the optimizer's own products; all else counts as time only.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.denoisers.layers import set_dropout_generator
from imagen_workbench.core.denoisers.model import DenoisingModel, build_model
from imagen_workbench.core.extensions import bundled_recipes, make_scheme
from imagen_workbench.core.machine import available_cores, choose_device, described_device, set_threads
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.training.losses import denoising_loss
from imagen_workbench.core.training.optimizers import make_optimizer

TRANSFORMER = {"model.network": "transformer", "model.width": 96, "model.depth": 6, "model.stem": 4}
FORMATS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Measured:
    network: str
    format: str
    parameters: int
    gflop_per_step: float
    ms_per_step: float
    images_per_second: float
    gflops: float
    share_of_peak: float


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matmul_peak(dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """FLOP/s of the fastest square product."""
    sizes = (1024, 1536, 2048) if device.type == "cpu" else (4096, 8192)
    best = 0.0
    for n in sizes:
        a, b = (torch.randn(n, n, generator=generator(0, "matmul", 0, k)).to(device, dtype) for k in (0, 1))
        out = a @ b
        began = time.perf_counter()
        while time.perf_counter() - began < seconds / len(sizes):
            synchronize(device)
            start = time.perf_counter()
            torch.matmul(a, b, out=out)
            synchronize(device)
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


class Step:
    """One optimizer step of a recipe's model on random images, as training makes it."""

    def __init__(self, recipe: Recipe, autocast: torch.dtype | None, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        scheme = make_scheme(recipe, Facts(tuple("0123456789")))
        self.model: DenoisingModel = build_model(recipe, scheme, autocast).to(device).train()
        self.optimizer = make_optimizer(self.model, recipe.training)
        random = generator(0, "benchmark")
        shape = (recipe.training.batch, recipe.data.channels, *recipe.data.size)
        self.x0 = torch.randn(shape, generator=random).to(device)
        self.noise = torch.randn(shape, generator=random).to(device)
        self.sigma = torch.randn(shape[0], generator=random).exp().to(device)
        self.labels = (torch.arange(shape[0]) % 10).to(device)
        self.dropout = torch.Generator(device)

    def __call__(self) -> None:
        set_dropout_generator(self.model, self.dropout)
        self.optimizer.zero_grad(set_to_none=True)
        cond = self.model.encode(self.labels)
        losses = denoising_loss(self.model, self.x0, self.sigma, self.noise, cond, self.recipe.model.sigma_data)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.training.clip)
        self.optimizer.step()


def measure(
    name: str, recipe: Recipe, number_format: str, device: torch.device, peak: float, seconds: float
) -> Measured:
    """The median step of `seconds` of them, after three to warm up."""
    step = Step(recipe, FORMATS[number_format], device)
    # torch counts no FLOP of the processor's own attention: for counting, it is made of plain products
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        step()
    for _ in range(3):
        step()
    times = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - start)
    median, flop = sorted(times)[len(times) // 2], counted.get_total_flops()
    return Measured(
        name,
        number_format,
        sum(parameter.numel() for parameter in step.model.parameters()),
        flop / 1e9,
        1e3 * median,
        recipe.training.batch / median,
        flop / median / 1e9,
        flop / median / peak,
    )


def profiled(recipe: Recipe, number_format: str, device: torch.device) -> str:
    """Where five steps spend their time, operation by operation."""
    step = Step(recipe, FORMATS[number_format], device)
    for _ in range(3):
        step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        key = "self_cuda_time_total"
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(5):
            step()
    return profile.key_averages().table(sort_by=key, row_limit=16, max_name_column_width=48)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each network and format")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    parser.add_argument("--profile", action="store_true", help="show where a step's time goes")
    options = parser.parse_args()
    set_threads()
    device = choose_device(options.device)
    digits = Recipe.read(bundled_recipes()["digits"])
    recipes = {"digits (unet)": digits, "transformer": digits.with_values(TRANSFORMER)}

    print(f"{described_device(device, None)} ({available_cores()} cores, {platform.processor() or platform.machine()})")
    print(
        f"{'network':16} {'format':9} {'params':>9} {'GFLOP':>7} {'ms':>7} "
        f"{'images/s':>9} {'GFLOP/s':>8} {'of peak':>8}"
    )
    rows: list[Measured] = []
    peaks = {name: matmul_peak(dtype or torch.float32, device, 3.0) for name, dtype in FORMATS.items()}
    for name, recipe in recipes.items():
        for number_format in FORMATS:
            row = measure(name, recipe, number_format, device, peaks[number_format], options.seconds)
            rows.append(row)
            print(
                f"{row.network:16} {row.format:9} {row.parameters:9,} {row.gflop_per_step:7.1f} {row.ms_per_step:7.1f} "
                f"{row.images_per_second:9.0f} {row.gflops:8.1f} {row.share_of_peak:8.1%}"
            )
    for name, peak in peaks.items():
        print(f"{'matrix product':16} {name:9} {'':35} {peak / 1e9:8.1f}")
    if options.profile:
        for name, recipe in recipes.items():
            print(f"\n{name}, bfloat16\n{profiled(recipe, 'bfloat16', device)}")
    if options.out:
        figures = {
            "device": described_device(device, None),
            "torch": torch.__version__,
            "peak_gflops": {name: peak / 1e9 for name, peak in peaks.items()},
            "steps": [asdict(row) for row in rows],
        }
        options.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
