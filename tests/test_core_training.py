"""The training loop: its objective in closed form, its randomness, its order, and that it learns."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from imagen_workbench.core.data.cache import Dataset
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.data.split import content_hash, split
from imagen_workbench.core.data.unit import to_unit
from imagen_workbench.core.denoisers.layers import Dropout, initialise
from imagen_workbench.core.denoisers.model import DenoisingModel, Weighted, build_model
from imagen_workbench.core.errors import ModelError, RecipeError
from imagen_workbench.core.extensions import make_scheme
from imagen_workbench.core.generators import finish
from imagen_workbench.core.models import Model
from imagen_workbench.core.precondition import Preconditioning
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Recipe, Training
from imagen_workbench.core.training.batches import Batches, BatchOrder
from imagen_workbench.core.training.held_out import held_out_loss
from imagen_workbench.core.training.loop import train
from imagen_workbench.core.training.losses import (
    BANDS,
    Uncertainty,
    by_band,
    denoising_loss,
    loss_weight,
    noise_levels,
)
from imagen_workbench.core.training.optimizers import learning_rate, load_state_tensors, state_tensors
from imagen_workbench.core.training.state import Diverged, TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagen_workbench.core.conditioning import Condition

CPU = torch.device("cpu")
TOY = Recipe.of(
    {
        "data": {"size": [8, 8], "channels": 1, "validation": 16},
        "conditioning": {"scheme": "label", "options": {"width": 8}},
        "model": {"width": 16, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2, "sigma_data": 0.7},
        "training": {"steps": 40, "batch": 16, "micro_batch": 16, "learning_rate": 0.005, "device": "cpu"},
        "sampling": {"steps": 8},
    }
)
UNCERTAIN = TOY.with_values({"training.weighting": "uncertainty"})


def toy(count: int = 80) -> Dataset:
    """Two classes: bright on the left, or bright at the top; with a little noise."""
    labels = np.arange(count) % 2
    pixels = np.full((count, 1, 8, 8), 40, np.uint8)
    pixels[labels == 0, :, :, :4] = 210
    pixels[labels == 1, :, :4, :] = 210
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape, np.uint8)
    hashes = np.stack([content_hash(image) for image in pixels])
    held_in, held_out = split(hashes, 16)
    return Dataset(pixels, labels, labels, held_in, held_out, hashes, ("",) * count, (), ("left", "top"))


LABELS = make_scheme(TOY, Facts(("left", "top")))


def begun(recipe: Recipe = TOY) -> TrainingState:
    return TrainingState.begin(build_model(recipe, make_scheme(recipe, Facts(("left", "top")))), recipe)


def run(state: TrainingState, recipe: Recipe, data: Dataset, steps: int | None = None) -> list[float]:
    """Losses of the steps up to `steps` (of the recipe's, which set the learning rate)."""
    losses = []
    for tick in train(state, data, recipe, CPU, recipe.training.steps):
        if tick.whole:
            losses.append(tick.loss)
            if steps is not None and tick.step >= steps:
                break
    return losses


def digest(state: TrainingState) -> str:
    whole = hashlib.sha256()
    for name, group in sorted(state.tensors().items()):
        for key, tensor in sorted(group.items()):
            whole.update(f"{name}/{key}".encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


# --- the objective --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 0.8])
def test_the_first_loss_is_one_at_every_level(sigma_data: float) -> None:
    """A network of zeros, on data of zero mean and the right spread: D = c_skip x, lambda E(D - x0)² = 1, exactly.

    x0 and n are vectors with the moments of the two distributions, so that nothing is left to chance.
    """
    levels = torch.logspace(-3, 3, 25, dtype=torch.float64)
    x0 = sigma_data * torch.tensor([1.0, 1, -1, -1], dtype=torch.float64).reshape(1, 1, 2, 2).expand(25, 1, 2, 2)
    noise = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64).reshape(1, 1, 2, 2).expand(25, 1, 2, 2)

    def zero(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        return Preconditioning(sigma_data=sigma_data).denoise(
            lambda scaled, *_: torch.zeros_like(scaled), x, sigma, None
        )

    losses = denoising_loss(zero, x0, levels, noise, None, sigma_data)
    assert losses.tolist() == pytest.approx([1.0] * 25, abs=1e-9)


def test_a_new_model_starts_there() -> None:
    """Its output starts as zero, whatever its condition."""
    model = begun().model
    x0 = 0.7 * torch.tensor([1.0, 1, -1, -1]).repeat(16).reshape(1, 1, 8, 8).expand(6, 1, 8, 8)
    noise = torch.tensor([1.0, -1, 1, -1]).repeat(16).reshape(1, 1, 8, 8).expand(6, 1, 8, 8)
    cond = model.encode(torch.tensor([0, 1, 0, 1, 0, 1]))
    with torch.no_grad():
        losses = denoising_loss(model, x0, torch.logspace(-2, 2, 6), noise, cond, 0.7)
    assert losses.tolist() == pytest.approx([1.0] * 6, rel=1e-3)


def test_the_right_answer_costs_nothing_and_each_image_counts_for_itself() -> None:
    x0 = torch.randn(4, 1, 2, 2, generator=generator(0, "x0"), dtype=torch.float64)
    off = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        return x0 + off.reshape(4, 1, 1, 1)

    sigma = torch.full((4,), 0.5, dtype=torch.float64)
    losses = denoising_loss(denoise, x0, sigma, torch.zeros_like(x0), None, 0.5)
    assert losses.tolist() == pytest.approx((8 * off**2).tolist(), abs=1e-12)


def test_bands_part_every_level_once() -> None:
    sigma = torch.logspace(-4, 3, 200)
    losses = torch.arange(200.0)
    found = by_band(losses, sigma)
    assert len(found) == len(BANDS) == len({name for name, _ in found})
    inside = [((sigma >= low) & (sigma < high)).sum() for low, high in BANDS]
    assert sum(int(count) for count in inside) == 200
    total = sum(mean * int(count) for (_, mean), count in zip(found, inside, strict=True))
    assert total == pytest.approx(float(losses.sum()))
    assert [name for name, _ in by_band(losses[:1], torch.tensor([2.0]))] == ["1–3"]


def test_pixels_become_numbers_in_minus_one_to_one() -> None:
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


# --- the recipe's noise levels and weights ------------------------------------------------------------


def levels(**settings: object) -> Tensor:
    """Those of the recipe at 9 even quantiles."""
    values = {f"training.{key}": value for key, value in settings.items() if key != "schedule"}
    values |= {"model.schedule": settings["schedule"]} if "schedule" in settings else {}
    return noise_levels(TOY.with_values(values))(torch.linspace(0.1, 0.9, 9, dtype=torch.float64))


def test_noise_levels_are_the_recipes_quantiles() -> None:
    """Closed forms: normal quantiles, a straight line in ln sigma, and t = u of the family's own time."""
    u = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    normal = torch.distributions.Normal(-0.5, 2.0).icdf(u.float()).double()
    assert torch.allclose(levels(sigma_mean=-0.5, sigma_std=2.0).log(), normal, atol=1e-5)
    even = math.log(0.01) + u * math.log(10 / 0.01)
    assert torch.allclose(levels(noise="log-uniform", sigma_min=0.01, sigma_max=10).log(), even)
    flow = levels(noise="schedule", schedule="flow", sigma_min=1e-6, sigma_max=1e5)
    assert torch.allclose(flow / (1 + flow), u, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"noise": "schedule"}, "training.noise"),
        ({"noise": "log-uniform", "sigma_min": 3, "sigma_max": 2}, "training.sigma_min"),
    ],
)
def test_noise_levels_that_there_are_none_of_are_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        levels(**settings)
    assert caught.value.field == field
    assert caught.value.fix


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("edm", lambda sigma: (sigma**2 + 0.49) / (0.7 * sigma) ** 2),
        ("simple", lambda sigma: sigma**-2),
        ("min-snr", lambda sigma: (sigma**-2).clamp(max=3)),
        ("soft-min-snr", lambda sigma: 1 / (sigma**2 + 0.49)),
        ("uncertainty", lambda sigma: (sigma**2 + 0.49) / (0.7 * sigma) ** 2),
    ],
)
def test_weights_are_the_recipes(weighting: str, expected: Callable[[Tensor], Tensor]) -> None:
    sigma = torch.logspace(-2, 2, 9, dtype=torch.float64)
    weight = loss_weight(TOY.with_values({"training.weighting": weighting, "training.snr_cap": 3}))
    assert torch.allclose(weight(sigma), expected(sigma))


def test_the_learned_uncertainty_finds_the_log_of_the_expected_loss() -> None:
    """Losses of 0.2 and 1.8 times m(sigma), each as often: u -> ln m(sigma), and not the mean of their logs."""
    head = Uncertainty()
    initialise(head, generator(0, "head"))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    sigma = torch.logspace(-1.5, 0.8, 200).repeat(2)
    losses = (0.1 + sigma) * torch.tensor([0.2, 1.8]).repeat_interleave(200)
    assert not head(sigma).any()
    for _ in range(500):
        optimizer.zero_grad()
        head.objective(losses, sigma).mean().backward()
        optimizer.step()
    assert torch.allclose(head(sigma), (0.1 + sigma).log(), atol=0.05)
    least = float(head.objective(losses, sigma).detach().mean())
    assert least == pytest.approx(1 + float((0.1 + sigma).log().mean()), abs=1e-3)


def test_an_uncertainty_that_is_zero_trains_as_edm_does() -> None:
    """Its first step, where the head gives 0, is EDM's to the bit; and the loss that is told stays EDM's."""
    plain, learned, data = begun(), begun(UNCERTAIN), toy()
    assert run(plain, TOY, data, 1) == run(learned, UNCERTAIN, data, 1)
    assert all(
        torch.equal(one, other) for one, other in zip(plain.model.parameters(), learned.model.parameters(), strict=True)
    )
    assert learned.uncertainty is not None
    assert learned.uncertainty.head.weight.any()


def test_the_uncertainty_is_saved_beside_the_weights_and_in_no_average() -> None:
    state = begun(UNCERTAIN)
    run(state, UNCERTAIN, toy(), 2)
    groups = state.tensors()
    assert {"head.weight", "head.bias"} <= groups["uncertainty"].keys()
    assert not any("head" in name.split(".")[0] for group in groups if group != "uncertainty" for name in groups[group])


# --- learning rate and optimizer ------------------------------------------------------------------


def test_the_rate_rises_stands_and_falls() -> None:
    settings = Training(learning_rate=0.01, warmup=0.1, decay=0.4)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) / 10 for step in range(10)])
    assert rates[10:60] == pytest.approx([0.01] * 50)
    assert rates[60:] == pytest.approx([0.01 * (100 - step) / 40 for step in range(60, 100)])
    assert min(rates) > 0


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_every_share_gives_a_rate_above_zero(warmup: float, decay: float, steps: int) -> None:
    settings = Training(warmup=warmup, decay=decay)
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    assert all(0 < rate <= settings.learning_rate for rate in rates)


def test_the_optimizers_state_comes_back() -> None:
    state, data = begun(), toy()
    run(state, TOY, data, 3)
    other = begun()
    load_state_tensors(other.optimizer, other.model, state_tensors(state.optimizer, state.model))
    saved, loaded = (state_tensors(each.optimizer, each.model) for each in (state, other))
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    with pytest.raises(ModelError) as caught:
        load_state_tensors(other.optimizer, other.model, {"no.such/exp_avg": torch.zeros(1)})
    assert caught.value.tensor == "no.such/exp_avg"


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 16, 64, 150])
def test_every_image_comes_exactly_once_in_an_epoch(batch: int) -> None:
    """Whatever the batch, and also where it is larger than the dataset."""
    images = np.arange(100, 164)
    order = BatchOrder(images, seed=3)
    batches = -(-4 * len(images) // batch)
    seen = np.concatenate([order.batch(k * batch, batch, 0) for k in range(batches)])
    epochs = [seen[start : start + 64] for start in range(0, 4 * 64, 64)]
    assert all(sorted(epoch) == images.tolist() for epoch in epochs)
    assert not any(np.array_equal(epochs[0], other) for other in epochs[1:])


def test_order_follows_seed_attempt_and_counter_alone() -> None:
    images = np.arange(50)
    first = BatchOrder(images, 3).batch(64, 16, 0)
    asked_before = BatchOrder(images, 3)
    for at in (1000, 0, 320):
        asked_before.batch(at, 16, 0)
    assert np.array_equal(asked_before.batch(64, 16, 0), first)
    assert not np.array_equal(BatchOrder(images, 4).batch(64, 16, 0), first)
    assert not np.array_equal(BatchOrder(images, 3).batch(64, 16, 1), first)


# --- randomness -----------------------------------------------------------------------------------


def global_states() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002 - the person's


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_global_randomness_is_the_persons(dropout: float) -> None:
    """Building, training, measuring and drawing leave it as it was, and do not hang on it."""
    recipe = TOY.with_values({"model.dropout": dropout, "data.shift": 1, "data.flip": True})
    results = []
    for reseed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(reseed)
            before = global_states()
            state, data = begun(recipe), toy()
            run(state, recipe, data, 3)
            for _ in held_out_loss(state.model, state.model.encode, LABELS, data, recipe, CPU):
                pass
            drawn = model_of(state, recipe).draw(["left"], count=2, steps=3, churn=10, sampler="heun")
            assert global_states() == before
        results.append((digest(state), drawn.arrays.tobytes()))
    assert results[0] == results[1]


def model_of(state: TrainingState, recipe: Recipe) -> Model:
    weights = {float(name): average for name, average in state.emas.items()}
    scheme = make_scheme(recipe, Facts(("left", "top")))
    return Model("toy", "toy", recipe, scheme, state.model, weights, CPU)


Seen = list[tuple[Tensor, Tensor, Tensor]]


def watching(model: DenoisingModel) -> Seen:
    """All that goes into the model from now on: x, sigma and the condition's vector."""
    seen: Seen = []

    def note(_module: torch.nn.Module, given: tuple[Tensor, Tensor, Condition]) -> None:
        x, sigma, cond = given
        assert cond.vector is not None
        seen.append((x.detach().clone(), sigma.clone(), cond.vector.detach().clone()))

    model.register_forward_pre_hook(note)
    return seen


def watched(micro_batch: int, steps: int) -> tuple[list[Tensor], TrainingState]:
    recipe = TOY.with_values({"training.micro_batch": micro_batch, "data.shift": 1, "training.clip": 100})
    state = begun(recipe)
    seen = watching(state.model)
    run(state, recipe, toy(), steps)
    return [torch.cat(parts) for parts in zip(*seen, strict=True)], state


@pytest.mark.parametrize("micro_batch", [1, 5, 8, 64])
def test_chunks_change_no_noise(micro_batch: int) -> None:
    """The same noisy images at the same levels with the same conditions dropped, bit for bit; and one step of
    averaged gradients agrees to float tolerance."""
    (x, sigma, cond), whole = watched(16, 1)
    (other_x, other_sigma, other_cond), parts = watched(micro_batch, 1)
    assert torch.equal(x, other_x)
    assert torch.equal(sigma, other_sigma)
    assert torch.equal(cond, other_cond)
    for first, second in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert first.grad is not None
        assert second.grad is not None
        assert torch.allclose(first.grad, second.grad, atol=1e-6)


def test_chunks_change_the_weights_by_rounding_only() -> None:
    """Adam divides by the gradient's size, so a rounding of a tiny gradient may show: less than a part of a step."""
    _, whole = watched(16, 4)
    _, parts = watched(4, 4)
    for first, second in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(first, second, atol=0.1 * TOY.training.learning_rate)


def test_noise_never_repeats_from_step_to_step() -> None:
    (x, sigma, _), _ = watched(16, 3)
    assert len({tuple(step.tolist()) for step in sigma.chunk(3)}) == 3
    assert len({image.numpy().tobytes() for image in x}) == 48


def test_levels_are_the_recipes_distribution() -> None:
    (_, sigma, _), _ = watched(16, 8)
    logs = sigma.double().log().reshape(8, 16).sort(dim=1).values
    edges = [-1.2 + 1.2 * math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * k / 16 - 1))) for k in range(17)]
    for row in logs:
        assert all(
            low - 1e-5 <= float(each) <= high + 1e-5 for each, low, high in zip(row, edges, edges[1:], strict=False)
        )


def test_conditions_are_dropped_as_often_as_the_recipe_says() -> None:
    recipe = TOY.with_values({"conditioning.dropout": 0.25})
    state = begun(recipe)
    seen = watching(state.model)
    null = state.model.encode.table[-1].detach().clone()
    steps = 30
    for tick in train(state, toy(), recipe.with_values({"training.learning_rate": 1e-30}), CPU, steps):
        assert tick.loss != 0
    dropped = torch.cat([(cond == null).all(1) for _, _, cond in seen]).double()
    assert float(dropped.mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / (16 * steps)))


def test_dropout_silences_its_share_and_keeps_the_mean() -> None:
    layer, x = Dropout(0.3), torch.ones(200, 200)
    layer.generator = generator(0, "dropout")
    y = layer.train()(x)
    assert float((y == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert y.max() == pytest.approx(1 / 0.7)
    assert torch.equal(layer.eval()(x), x)


# --- turns ----------------------------------------------------------------------------------------


def test_it_yields_after_every_pass_and_says_when_it_is_whole() -> None:
    recipe = TOY.with_values({"training.micro_batch": 5, "training.steps": 3})
    ticks = list(train(begun(recipe), toy(), recipe, CPU, 3))
    assert [tick.whole for tick in ticks] == [False] * 4 + [True] + [False] * 4 + [True] + [False] * 4 + [True]
    assert [tick.step for tick in ticks if tick.whole] == [1, 2, 3]
    assert all(math.isfinite(tick.loss) and tick.grad_norm > 0 for tick in ticks if tick.whole)


def test_grad_mode_spans_no_yield() -> None:
    state, data = begun(), toy()
    for k, _ in enumerate(train(state, data, TOY, CPU, 3)):
        assert torch.is_grad_enabled()
        if k == 3:
            break
    work = held_out_loss(state.model, state.model.encode, LABELS, data, TOY, CPU)
    next(work)
    assert torch.is_grad_enabled()
    work.close()
    assert torch.is_grad_enabled()


def test_what_happens_between_two_passes_changes_nothing() -> None:
    """Draws, measurements, a graph of somebody else's: training goes on as if it had been alone."""
    recipe, data = TOY.with_values({"training.micro_batch": 4, "model.dropout": 0.2}), toy()
    alone, disturbed = begun(recipe), begun(recipe)
    run(alone, recipe, data, 4)
    for k, tick in enumerate(train(disturbed, data, recipe, CPU, recipe.training.steps)):
        model = model_of(disturbed, recipe)
        if k % 3 == 0:
            model.draw(["left", "top"], count=3, steps=2, churn=5, sampler="heun")
        if k % 5 == 0:
            average = Weighted(disturbed.model, next(iter(disturbed.emas.values())))
            for _ in held_out_loss(average, average.encoder, LABELS, data, recipe, CPU):
                pass
        if k % 7 == 0:
            disturbed.model(torch.zeros(1, 1, 8, 8), torch.tensor(1.0), None).sum()
        if tick.whole and tick.step == 4:
            break
    assert digest(alone) == digest(disturbed)


def spoilt(state: TrainingState, steps: set[int]) -> None:
    """Makes the model give NaN in these steps, counted over all that it makes."""
    made = iter(range(1, 10_000))

    def spoil(_module: torch.nn.Module, _given: object, found: Tensor) -> Tensor:
        return found * math.nan if next(made) in steps else found

    state.model.register_forward_hook(spoil)


def test_a_step_without_a_finite_loss_is_skipped() -> None:
    """The weights, averages and optimizer stay as they are; the counter goes on, to other images and noise."""
    state, data = begun(), toy()
    spoilt(state, {3})
    run(state, TOY, data, 2)
    before = digest(state)
    (tick,) = [tick for tick in train(state, data, TOY, CPU, 3) if tick.whole]
    assert (tick.step, tick.skipped) == (3, True)
    assert (digest(state), state.seen, state.skipped) == (before, 3 * 16, 1)
    (tick,) = [tick for tick in train(state, data, TOY, CPU, 4) if tick.whole]
    assert not tick.skipped
    assert (digest(state) == before, state.skipped) == (False, 0)


def test_three_skipped_steps_in_a_row_end_it() -> None:
    state, data = begun(), toy()
    spoilt(state, {2, 3, 5, 6, 7})
    with pytest.raises(Diverged) as caught:
        run(state, TOY, data)
    assert state.seen == 7 * 16
    assert "up to step 7" in caught.value.what
    assert caught.value.field == "training.learning_rate"
    assert caught.value.fix


def test_weights_that_are_not_finite_end_it_before_they_are_saved() -> None:
    """The gradient of the last step before is finite still; what becomes of the weights in it is not."""
    state, data = begun(), toy()
    recipe = TOY.with_values({"training.checkpoint_every": 4})
    run(state, recipe, data, 3)
    for group in state.optimizer.param_groups:
        group["weight_decay"] = math.inf
    with pytest.raises(Diverged, match="weights are not finite at step 4"):
        run(state, recipe, data, 4)


# --- how images were changed ----------------------------------------------------------------------


def test_the_network_is_told_how_training_images_were_changed() -> None:
    """The labels come with the images, chunk by chunk, whether their condition is dropped or not."""
    told = []
    recipe = TOY.with_values({"data.augment": 0.5, "training.micro_batch": 6, "conditioning.dropout": 0.5})
    state, data = begun(recipe), toy()
    state.model.register_forward_pre_hook(lambda _module, given: told.append(given[2].augmentation))
    run(state, recipe, data, 1)
    batch = Batches(data, recipe, LABELS).at(0, 0)
    assert batch.augmentation is not None
    assert torch.equal(torch.cat(told), batch.augmentation)
    assert batch.augmentation.any(1).float().mean() > 0.5
    plain = Batches(data, TOY, LABELS).at(0, 0)
    assert plain.augmentation is None
    assert torch.equal(plain.noise, batch.noise)
    assert not torch.equal(plain.x0, batch.x0)


# --- continuing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["edm", "uncertainty"])
@pytest.mark.parametrize("at", [1, 3, 7])
def test_it_goes_on_from_a_saved_state_as_if_it_had_not_stopped(at: int, weighting: str) -> None:
    values = {"training.steps": 9, "model.dropout": 0.2, "data.shift": 1, "training.weighting": weighting}
    recipe, data = TOY.with_values(values), toy()
    straight = begun(recipe)
    losses = run(straight, recipe, data)
    first = begun(recipe)
    run(first, recipe, data, at)
    kept = {name: {key: tensor.clone() for key, tensor in group.items()} for name, group in first.tensors().items()}
    second = begun(recipe.with_values({"training.seed": 99}))
    second.load(kept, first.counters())
    assert run(second, recipe, data) == losses[at:]
    assert digest(second) == digest(straight)


def test_closing_it_in_mid_step_loses_that_step_alone() -> None:
    recipe, data = TOY.with_values({"training.micro_batch": 4, "training.steps": 6}), toy()
    straight, broken_off = begun(recipe), begun(recipe)
    run(straight, recipe, data)
    work: Iterator[object] = train(broken_off, data, recipe, CPU, 6)
    for _ in range(5 * 2 + 3):
        next(work)
    work.close()  # type: ignore[attr-defined]
    run(broken_off, recipe, data)
    assert digest(broken_off) == digest(straight)


def test_another_attempt_meets_other_noise() -> None:
    """A replay after a roll-back must not meet the same trouble again."""
    data, first, second = toy(), begun(), begun()
    second.attempt = 1
    assert run(first, TOY, data, 2) != run(second, TOY, data, 2)


def test_the_seed_decides_the_first_weights() -> None:
    assert digest(begun()) == digest(begun())
    assert digest(begun()) != digest(begun(TOY.with_values({"training.seed": 1})))


# --- learning -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned() -> TrainingState:
    recipe = TOY.with_values({"training.steps": 150})
    state = begun(recipe)
    run(state, recipe, toy())
    return state


def measured(state: TrainingState, data: Dataset) -> tuple[float, dict[str, float]]:
    average = Weighted(state.model, next(iter(state.emas.values())))
    loss, bands, groups = finish(held_out_loss(average, average.encoder, LABELS, data, TOY, CPU))
    assert groups == ()
    return loss, dict(bands)


def test_it_learns_two_classes(learned: TrainingState) -> None:
    data = toy()
    before, _ = measured(begun(), data)
    after, _ = measured(learned, data)
    assert after < 0.3 * before


def test_it_listens_to_its_condition(learned: TrainingState) -> None:
    """Told the wrong class it does worse, and worst where there is most noise and little else to go by."""
    data = toy()
    wrong = dataclasses.replace(data, prepared=1 - data.prepared)
    (right_loss, right), (wrong_loss, misled) = measured(learned, data), measured(learned, wrong)
    assert wrong_loss > 1.3 * right_loss
    assert misled["1–3"] > 2 * right["1–3"]


def test_what_it_draws_is_what_was_asked(learned: TrainingState) -> None:
    drawn = model_of(learned, TOY).draw(["left", "top"], count=8, seed=1, steps=12, guidance=1.5)
    left, top = (to_unit(torch.from_numpy(toy().pixels[k : k + 2 * 10 : 2])).mean(0) for k in (0, 1))
    for image, label in zip(torch.from_numpy(drawn.arrays), drawn.labels, strict=True):
        distances = [float((image - template).square().mean()) for template in (left, top)]
        assert distances[label] < 0.1 * distances[1 - label]


def test_held_out_loss_is_measured_with_the_same_noise_every_time(learned: TrainingState) -> None:
    assert measured(learned, toy()) == measured(learned, toy())
    nothing_held_out = dataclasses.replace(toy(), held_out=np.zeros(0, np.int64))
    loss, bands = measured(learned, nothing_held_out)
    assert math.isnan(loss)
    assert bands == {}
