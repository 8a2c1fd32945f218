"""Averages with a power-function profile (Karras et al. 2024, arXiv 2312.02696)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagen_workbench.core.errors import ModelError
from imagen_workbench.core.models import open_model
from imagen_workbench.core.recipe import Recipe, Training
from imagen_workbench.core.runs.snapshots import is_due
from imagen_workbench.core.training import ema
from imagen_workbench.core.training.posthoc import Profile, inner_products, mixed, mixture
from imagen_workbench.core.worker.headless import train

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.runs.folder import Run

# METHODS.md, B2: relative width → exponent
TABLE = [(0.05, 16.97), (0.10, 6.94), (0.15, 3.56), (0.20, 1.83), (0.25, 0.72)]


@pytest.mark.parametrize(("length", "g"), TABLE)
def test_exponents_are_those_of_the_paper(length: float, g: float) -> None:
    assert ema.exponent(length) == pytest.approx(g, abs=0.006)


@given(st.floats(0.01, 0.2885))
def test_exponent_inverts_the_width(length: float) -> None:
    """sigma_rel = sqrt((g+1) / ((g+2)² (g+3))), the spread of the profile relative to its end."""
    g = ema.exponent(length)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(length, rel=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.2])
def test_the_width_is_that_of_the_profile(length: float) -> None:
    """p(t) = (g+1) t^g on [0, 1], its standard deviation by integration."""
    g = ema.exponent(length)
    t = (np.arange(400_000) + 0.5) / 400_000
    p = (g + 1) * t**g
    mean = (p * t).mean()
    assert math.sqrt((p * (t - mean) ** 2).mean()) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.2887, 1.0, math.nan])
def test_widths_that_no_profile_has_are_refused(length: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        ema.exponent(length)


def test_every_length_that_a_recipe_may_ask_for_has_an_exponent() -> None:
    limits = Training.model_json_schema()["properties"]["emas"]["items"]
    for length in (limits["minimum"], limits["maximum"]):
        assert ema.exponent(float(ema.name_of(length))) > 0


def test_the_first_average_is_the_weights() -> None:
    assert ema.decay(16, 16, 0.1) == 0
    average, weights = {"w": torch.full((3,), 9.0)}, {"w": torch.tensor([0.1, 0.2, 0.3])}
    ema.update(average, weights, ema.decay(16, 16, 0.1))
    assert torch.equal(average["w"], weights["w"])


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_updating_step_by_step_is_the_weighted_average(length: float) -> None:
    """The weight of step i, after T steps, is (i^(g+1) - (i-1)^(g+1)) / T^(g+1): the profile's integral over it."""
    steps, batch = 200, 16
    values = torch.randn(steps, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    average = {"w": torch.full((5,), 1e9, dtype=torch.float64)}
    for i in range(1, steps + 1):
        ema.update(average, {"w": values[i - 1]}, ema.decay(i * batch, batch, length))
    power = ema.exponent(length) + 1
    ends = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** power
    assert torch.allclose(average["w"], (ends.diff()[:, None] * values).sum(0), atol=1e-12)


def test_a_constant_stays_what_it_is() -> None:
    average = {"w": torch.full((2,), 0.3, dtype=torch.float64)}
    for i in range(1, 50):
        ema.update(average, {"w": torch.full((2,), 0.3, dtype=torch.float64)}, ema.decay(i, 1, 0.1))
    assert torch.allclose(average["w"], torch.full((2,), 0.3, dtype=torch.float64))


def test_the_profile_keeps_its_shape() -> None:
    """The same training, measured in finer steps: the average is the same to the order of a step."""

    def averaged(count: int) -> float:
        average = {"w": torch.zeros(1, dtype=torch.float64)}
        for i in range(1, count + 1):
            ema.update(average, {"w": torch.tensor([i / count], dtype=torch.float64)}, ema.decay(i, 1, 0.1))
        return float(average["w"])

    g = ema.exponent(0.1)
    assert averaged(4000) == pytest.approx((g + 1) / (g + 2), abs=1e-3)
    assert averaged(1000) == pytest.approx(averaged(4000), abs=1e-3)


def test_updating_leaves_weights_and_gradients_alone() -> None:
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    average = {"w": torch.zeros(2)}
    ema.update(average, weights, 0.5)
    assert torch.equal(weights["w"].detach(), torch.ones(2))
    assert not average["w"].requires_grad
    assert torch.is_grad_enabled()


# --- any length, afterwards -----------------------------------------------------------------------

TWO = (0.05, 0.10)


def kept(count: int, lengths: tuple[float, ...] = TWO) -> list[Profile]:
    """`count` snapshots of averages of these lengths, evenly over training, at times up to 1000."""
    return [Profile(1000 * (k + 1) / count, length) for k in range(count) for length in lengths]


def density(profile: Profile, t: np.ndarray) -> np.ndarray:
    """p(t) = (g+1) t^g / T^(g+1) up to T, and 0 after it."""
    g = ema.exponent(profile.length)
    return np.where(t <= profile.time, (g + 1) * (t / profile.time) ** g / profile.time, 0.0)


@pytest.mark.parametrize("first", [Profile(400, 0.05), Profile(1000, 0.2)])
@pytest.mark.parametrize("second", [Profile(400, 0.1), Profile(700, 0.05), Profile(1000, 0.02)])
def test_inner_products_are_the_integrals(first: Profile, second: Profile) -> None:
    t = (np.arange(400_000) + 0.5) / 400
    integral = float((density(first, t) * density(second, t)).mean() * 1000)
    assert inner_products([first], [second])[0, 0] == pytest.approx(integral, rel=1e-5)


@pytest.mark.parametrize(
    ("length", "least", "most"),
    [(0.03, 0.08, 0.105), (0.07, 0.01, 0.02), (0.13, 0.01, 0.02), (0.20, 0.07, 0.10)],
)
def test_eight_snapshots_of_two_profiles_reach_the_known_errors(length: float, least: float, most: float) -> None:
    """METHODS.md, B2: 1-2 % from 0.07 to 0.13, 8-10 % at 0.03 and 0.20; and the error is that of the densities."""
    target = Profile(1000, length)
    found = mixture(kept(8), target)
    assert least < found.error < most
    t = (np.arange(200_000) + 0.5) / 200
    approached = sum(share * density(each, t) for share, each in zip(found.shares, kept(8), strict=True))
    wanted = density(target, t)
    assert found.error == pytest.approx(float(np.linalg.norm(approached - wanted) / np.linalg.norm(wanted)), rel=1e-3)
    assert found.shares.sum() == pytest.approx(1)
    assert mixture(kept(16), target).error < found.error / 2


def test_between_two_snapshots_much_is_missed() -> None:
    """Which is why a model is rebuilt at the time of a state that has averages of its own."""
    for length in TWO:
        assert mixture(kept(8), Profile(1000 - 1000 / 16, length)).error > 0.3


@pytest.mark.parametrize("index", [0, 7, 15, 30, 31])
def test_a_profile_that_is_kept_comes_back_as_it_was(index: int) -> None:
    """Its share is 1, all others' 0, in float64; and so are the weights."""
    profiles = kept(16)
    found = mixture(profiles, profiles[index])
    assert found.shares == pytest.approx(np.eye(32)[index], abs=1e-9)
    assert found.error < 1e-6
    averages = torch.randn(32, 5, generator=torch.Generator().manual_seed(1))
    rebuilt = mixed((share, {"w": average}) for share, average in zip(found.shares, averages, strict=True))
    assert rebuilt["w"].dtype == torch.float32
    assert torch.allclose(rebuilt["w"], averages[index], atol=1e-6)


@pytest.mark.parametrize("length", [0.03, 0.07, 0.15, 0.2])
def test_rebuilt_weights_are_nearer_to_the_average_than_any_that_was_kept(length: float) -> None:
    """Weights that wander: each walks its own way, with a drift, over 1,600 steps."""
    steps, kinds = 1600, (*TWO, length)
    walk = torch.randn(steps, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 40
    walk = walk.cumsum(0) + torch.linspace(0, 3, steps, dtype=torch.float64).sqrt()[:, None]
    averages = {each: {"w": torch.zeros(64, dtype=torch.float64)} for each in kinds}
    snapshots: dict[Profile, torch.Tensor] = {}
    for step in range(1, steps + 1):
        for each in kinds:
            ema.update(averages[each], {"w": walk[step - 1]}, ema.decay(step, 1, each))
        if step % (steps // 16) == 0:
            snapshots |= {Profile(step, each): averages[each]["w"].clone() for each in TWO}
    found = mixture(list(snapshots), Profile(steps, length))
    parts = zip(found.shares, snapshots.values(), strict=True)
    rebuilt = mixed((share, {"w": average}) for share, average in parts)["w"]
    wanted = averages[length]["w"]
    error = float((rebuilt - wanted).norm())
    assert error < 0.2 * min(float((average - wanted).norm()) for average in snapshots.values())


# --- in a run -------------------------------------------------------------------------------------


def test_a_run_keeps_sixteen_snapshots_whatever_its_length() -> None:
    for steps in (16, 20, 100, 1600, 12_345):
        due = [step for step in range(1, steps + 1) if is_due(step, steps)]
        assert (len(due), due[-1]) == (16, steps)
    assert [step for step in range(1, 6) if is_due(step, 5)] == [1, 2, 3, 4, 5]


def test_a_run_gives_any_length(copied_run: Run) -> None:
    """The average that training would have kept, had the recipe asked for it, to a few per cent of what it moved."""
    model = open_model(copied_run.path)
    assert model.any_ema
    assert sorted(model.weights) == [0, 0.05, 0.1]
    rebuilt, raw = model.drawing_weights(0.08), model.weights[0]
    recipe = Recipe.read(copied_run.path / "recipe.toml")
    trained = train(recipe.with_values({"training.emas": [0.08]}), copied_run.path.with_name("other"))
    wanted = open_model(trained.path).weights[0.08]
    found = dict(rebuilt.denoiser._module.named_parameters())
    missed, moved = (
        math.sqrt(sum(float((one[name] - wanted[name]).square().sum()) for name in wanted)) for one in (found, raw)
    )
    assert missed < 0.1 * moved
    assert missed < 0.5 * min(
        math.sqrt(sum(float((model.weights[length][name] - wanted[name]).square().sum()) for name in wanted))
        for length in TWO
    )
    assert model.drawing_weights(0.08).hash == rebuilt.hash != model.drawing_weights(0.05).hash
    assert len(model.draw(["3"], count=1, steps=2, ema=0.08).images) == 1


def test_a_picture_drawn_with_a_rebuilt_average_is_drawn_again(copied_run: Run, tmp_path: Path) -> None:
    drawing = open_model(copied_run.path).draw(["3"], count=2, steps=2, ema=0.08)
    drawing.save(tmp_path / "picture.png")
    again = open_model(tmp_path / "picture.png").draw_again()
    assert np.array_equal(again.arrays, drawing.arrays)


def test_lengths_that_too_little_is_kept_for_are_refused(copied_run: Run) -> None:
    for path in copied_run.averages.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ModelError) as caught:
        open_model(copied_run.path).drawing_weights(0.2)
    assert caught.value.field == "sampling.ema"
    assert "error of" in caught.value.what
    with pytest.raises(ModelError, match=r"no EMA of length 0\.005"):
        open_model(copied_run.path).drawing_weights(0.005)


def test_a_single_file_gives_what_it_carries(copied_run: Run, tmp_path: Path) -> None:
    open_model(copied_run.path).save(tmp_path / "model.safetensors")
    model = open_model(tmp_path / "model.safetensors")
    assert not model.any_ema
    with pytest.raises(ModelError) as caught:
        model.drawing_weights(0.08)
    assert caught.value.field == "sampling.ema"


def test_a_damaged_snapshot_is_named(copied_run: Run) -> None:
    file = sorted(copied_run.averages.glob("*.safetensors"))[3]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ModelError) as caught:
        open_model(copied_run.path).drawing_weights(0.08)
    assert caught.value.file == str(file)
    assert caught.value.fix
