"""What our loops cost beyond the network: training through the worker, and each sampler, beside the bare work.

    python benchmarks/overhead.py [--only training,samplers] [--quick] [--out FILE]

training  the bundled recipe through the worker (data, noise, events, metrics, journal), previews and saving off the
          clock, beside forward, backward, clipping, optimizer and EMA on the very same batches, in blocks of steps that
          alternate. Both must end with the same weights, bit for bit, or the run is void.
samplers  a draw of eight digits by the bundled model, with each sampler, and by `draw` as the window asks for it,
          beside the network alone on the very inputs that the sampler gave it.

Per cent are of the bare work's time: the median over pairs of blocks, and the quartiles. The goal is at most 3. Measure
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from networks import synchronize
from time_to_quality import NEVER, machine

from imagen_workbench.core import Recipe, RunError, Worker, open_model
from imagen_workbench.core.commands import Draw, Stop, Train
from imagen_workbench.core.datasets import reading
from imagen_workbench.core.denoisers.layers import set_dropout_generator
from imagen_workbench.core.denoisers.model import build_model, load_weights
from imagen_workbench.core.drawing import conditions_of, draw
from imagen_workbench.core.events import Failed, Progress
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import choose_device, cpu_flags, set_threads
from imagen_workbench.core.runs.checkpoint import load_newest
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.sampling.path import SAMPLERS, draw_path, levels_of
from imagen_workbench.core.training import ema
from imagen_workbench.core.training.batches import Batches
from imagen_workbench.core.training.losses import denoising_error, loss_weight
from imagen_workbench.core.training.optimizers import learning_rate
from imagen_workbench.core.worker.starting import Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from imagen_workbench.core.conditioning import Condition
    from imagen_workbench.core.precondition import Denoiser
    from imagen_workbench.core.recipe import Sampling
    from imagen_workbench.core.training.batches import Batch

    Call = tuple[Tensor, Tensor, Condition | None]

PAIRS, STEPS, WARM, IMAGES = 30, 10, 10, 8
INTERESTING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "asimd", "sve")
"""Processor flags that decide how fast networks run."""


def this_machine() -> dict[str, Any]:
    """Date, cores, threads, load, versions, and what the processor says that it can do for networks."""
    return machine() | {"flags": [flag for flag in INTERESTING if flag in cpu_flags()]}


# --- pairs ----------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Until all that it asked of the device is done."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def compared(
    bare: Callable[[], object],
    ours: Callable[[], object],
    pairs: int,
    device: torch.device,
    before: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Both in pairs, each first in every second one: by how many per cent ours takes longer. before: off the clock."""
    slower, seconds = [], []
    for number in range(pairs):
        before()
        order = (bare, ours) if number % 2 else (ours, bare)
        times = {work: seconds_of(work, device) for work in order}
        slower.append(100 * (times[ours] / times[bare] - 1))
        seconds.append(times[bare])
    low, middle, high = statistics.quantiles(slower, n=4)
    return {"percent": middle, "from": low, "to": high, "bare_seconds": statistics.median(seconds)}


# --- training -------------------------------------------------------------------------------------


class ThroughTheWorker:
    """Training as the command line has it: a worker that is turned, and its events taken."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._worker, self._step = Worker(), 0
        self._worker.post(Train(1, str(folder), recipe))

    def make(self, steps: int) -> None:
        target = self._step + steps
        while self._step < target:
            self._turn()

    def stop(self) -> None:
        """Ends where the state is next whole, and saves it."""
        self._worker.post(Stop())
        while self._turn():
            pass

    def _turn(self) -> bool:
        busy = self._worker.turn()
        for event in self._worker.mailbox.take():
            if isinstance(event, Failed):
                raise RunError(event.what, field=event.field, file=event.file, fix=event.fix)
            if isinstance(event, Progress):
                self._step = event.step
        return busy


class Bare:
    """The same training with nothing around it: batches lie ready, nothing is told, looked after or written."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        data, scheme = finish(reading(recipe))
        self._recipe, self._device = recipe, device
        self.state = Setup(recipe, data, scheme, device).new_state(recipe.training.steps)
        self._batches, self._weight = Batches(data, recipe, scheme), loss_weight(recipe)
        self._ready: list[Batch] = []

    def prepare(self, steps: int) -> None:
        """Makes the batches of the next steps."""
        batch, seen = self._recipe.training.batch, self.state.seen
        whole = [self._batches.at(seen + k * batch, self.state.attempt) for k in range(steps)]
        self._ready = [each.part(slice(None), self._device) for each in whole]
        set_dropout_generator(self.state.model.train(), torch.Generator(self._device))

    def make(self) -> None:
        """The steps that have been prepared."""
        settings, state = self._recipe.training, self.state
        weights = dict(state.model.named_parameters())
        for batch in self._ready:
            state.optimizer.zero_grad(set_to_none=True)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(settings, state.seen // settings.batch, settings.steps)
            for start in range(0, settings.batch, settings.micro_batch):
                part = batch.part(slice(start, start + settings.micro_batch), self._device)
                error = denoising_error(state.model, part.x0, part.sigma, part.noise, part.condition(state.model))
                ((self._weight(part.sigma) * error).sum() / settings.batch).backward()
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip)
            state.optimizer.step()
            state.seen += settings.batch
            for name, average in state.emas.items():
                ema.update(average, weights, ema.decay(state.seen, settings.batch, float(name)))


def measure_training(pairs: int, steps: int, warm: int) -> Iterator[tuple[str, dict[str, Any]]]:
    every = ("training.checkpoint_every", "training.preview_every", "training.validate_every")
    recipe = Recipe.read(bundled_recipes()["digits"]).with_values(dict.fromkeys(every, NEVER))
    device = choose_device(recipe.training.device)
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        run = Run(Path(folder) / "run")
        worker, bare = ThroughTheWorker(recipe, run.path), Bare(recipe, device)
        worker.make(warm)
        bare.prepare(warm)
        bare.make()
        found = compared(bare.make, lambda: worker.make(steps), pairs, device, lambda: bare.prepare(steps))
        worker.stop()
        saved = load_newest(run.checkpoints)
        assert saved is not None
        checkpoint, tensors, _ = saved
        bare.prepare(checkpoint.step - bare.state.seen // recipe.training.batch)
        bare.make()
    own = bare.state.tensors()["weights"]
    same = all(torch.equal(own[name].cpu(), tensor.cpu()) for name, tensor in tensors["weights"].items())
    yield f"training, {recipe.name}", {**found, "work": steps, "same_weights": same}


# --- samplers -------------------------------------------------------------------------------------


class Recorded:
    """A denoiser that keeps what it was asked."""

    def __init__(self, denoise: Denoiser) -> None:
        self._denoise = denoise
        self.calls: list[Call] = []

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        self.calls.append((x, sigma, cond))
        return self._denoise(x, sigma, cond)


def measure_samplers(pairs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    model = open_model("digits")
    weights, own = model.drawing_weights(), model.recipe.sampling
    network = build_model(model.recipe, model.scheme).to(model.device).eval()
    load_weights(network, model.weights[weights.ema])
    texts = tuple(model.scheme.in_turn(IMAGES))
    cond, _ = conditions_of(weights, texts)
    shape = (model.recipe.data.channels, *model.recipe.data.size)

    def follow(denoise: Denoiser, settings: Sampling) -> None:
        levels = levels_of(settings)
        for _ in draw_path(denoise, cond, shape, tuple(range(IMAGES)), settings, levels, model.device):
            pass

    @torch.no_grad()
    def replay(calls: list[Call]) -> None:
        for call in calls:
            network(*call)

    def against_calls(ours: Callable[[], object], settings: Sampling) -> dict[str, Any]:
        recorded = Recorded(weights.denoiser)
        follow(recorded, settings)
        found = compared(lambda: replay(recorded.calls), ours, pairs, model.device)
        return {**found, "work": len(recorded.calls)}

    for name in SAMPLERS:
        settings = own.model_copy(update={"sampler": name})
        yield name, against_calls(lambda chosen=settings: follow(weights.denoiser, chosen), settings)
    request = Draw(1, "digits", texts, IMAGES, own)
    yield f"draw ({own.sampler})", against_calls(lambda: finish(draw(weights, request)), own)


# --- the program ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="training,samplers", help="which, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a smoke run: two pairs, figures without worth")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    set_threads()
    pairs, steps, warm = (2, 2, 1) if options.quick else (PAIRS, STEPS, WARM)
    measures = {"training": lambda: measure_training(pairs, steps, warm), "samplers": lambda: measure_samplers(pairs)}
    results: dict[str, Any] = {"machine": this_machine(), "quick": options.quick, "pairs": pairs, "rows": {}}
    print(*(f"{key}: {value}" for key, value in results["machine"].items()), sep="\n")
    print(f"\n{'':<22}{'steps or calls':>15}{'bare':>11}{'slower by':>12}{'quartiles':>20}")
    for kind in options.only.split(","):
        for name, row in measures[kind]():
            results["rows"][name] = row
            spread = f"{row['from']:.1f} to {row['to']:.1f} %"
            bare = f"{row['bare_seconds'] * 1e3:.0f} ms"
            print(f"{name:<22}{row['work']:>15}{bare:>11}{row['percent']:>10.1f} %{spread:>20}", flush=True)
            if not row.get("same_weights", True):
                raise SystemExit("The two trainings have come to different weights: the run is void.")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
