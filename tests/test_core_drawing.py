"""Drawing: one network call a turn, previews on the way, and everything that makes the draw again."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imagen_workbench.core import drawing
from imagen_workbench.core.commands import Draw
from imagen_workbench.core.conditioning import Condition
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.drawing import Weights, draw, images_per_call, to_pixels, with_indices
from imagen_workbench.core.errors import ModelError, RecipeError, RequestError
from imagen_workbench.core.extensions import make_scheme
from imagen_workbench.core.models import open_model
from imagen_workbench.core.recipe import Recipe, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_workbench.core.events import Drawn, Preview
    from imagen_workbench.core.runs.folder import Run

RECIPE = Recipe.of({"data": {"size": [4, 6], "channels": 1}, "model": {"sigma_data": 0.5}})
CLASSES = Facts(("a", "b", "c"))


class ByClass:
    """D for data N(0.4 (class - 1), 0.1²): class 0 is dark, class 2 bright. Counts its calls."""

    autocast = None

    def __init__(self, broken: bool = False) -> None:
        self.calls: list[int] = []
        self.broken = broken

    def encoder(self, prepared: Tensor) -> Condition:
        vector = 0.4 * (prepared.argmax(1, keepdim=True).float() - 1)
        return Condition(vector, null=Condition(torch.zeros_like(vector)))

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        assert cond is not None
        assert cond.vector is not None
        assert not torch.is_grad_enabled()
        self.calls.append(len(x))
        noise = (sigma**2).reshape(-1, 1, 1, 1)
        guess = (0.1**2 * x + noise * cond.vector[:, :, None, None]) / (0.1**2 + noise)
        return guess * float("inf") if self.broken else guess


def weights(denoiser: ByClass) -> Weights:
    scheme = make_scheme(RECIPE, CLASSES)
    return Weights(denoiser, RECIPE, scheme, torch.device("cpu"), "ref", "name", "hash", 0.1, 7)  # type: ignore[arg-type]


def drawn(
    request: Draw, indices: tuple[int, ...] | None = None, denoiser: ByClass | None = None
) -> tuple[list[Preview | None], Drawn]:
    path, said = draw(weights(denoiser or ByClass()), request, indices), []
    while True:
        try:
            said.append(next(path))
        except StopIteration as end:
            return said, end.value
        assert torch.is_grad_enabled()


def asked(conditions: Sequence[str] = (), count: int = 3, **sampling: Any) -> Draw:
    return Draw(5, "ref", tuple(conditions), count, Sampling.model_validate({"steps": 6, "guidance": 1, **sampling}))


@pytest.mark.parametrize(("sampler", "calls"), [("euler", 6), ("heun", 11), ("dpmpp-2m", 6)])
def test_one_turn_is_one_network_call(sampler: str, calls: int) -> None:
    denoiser = ByClass()
    path = draw(weights(denoiser), asked(sampler=sampler))
    for turn in range(1, calls + 1):
        next(path)
        assert len(denoiser.calls) == turn
    with pytest.raises(StopIteration) as end:
        next(path)
    assert end.value.value.nfe == calls == len(denoiser.calls)


def test_previews_show_the_network_s_own_output() -> None:
    said, end = drawn(asked(sampler="heun"))
    previews = [each for each in said if each is not None]
    assert [each.step for each in previews] == list(range(6))
    assert all(each.steps == 6 and each.ticket == 5 for each in previews)
    assert [each.sigma for each in previews] == sorted((each.sigma for each in previews), reverse=True)
    assert all(each.images is not None and each.images.shape == (3, 4, 6, 1) for each in previews)
    assert end.images is not None
    assert previews[-1].images is not None
    assert np.abs(previews[-1].images.astype(int) - end.images).max() <= 1


def test_what_is_drawn_is_what_was_asked() -> None:
    _, end = drawn(asked(["c", "a"], count=5))
    assert end.conditions == ("c", "a", "c", "a", "c")
    assert end.labels == (2, 0, 2, 0, 2)
    assert end.arrays is not None
    assert np.allclose(end.arrays.mean((1, 2, 3)), [0.4, -0.4, 0.4, -0.4, 0.4], atol=0.1)
    assert end.ticket == 5
    assert drawn(asked(count=4))[1].conditions == ("a", "b", "c", "a")


def test_guidance_pushes_away_from_no_condition() -> None:
    _, plain = drawn(asked(["c"], count=8, steps=60))
    _, pushed = drawn(asked(["c"], count=8, steps=60, guidance=2.0))
    _, free = drawn(asked(["c"], count=8, steps=60, guidance=0.0))
    assert plain.arrays is not None
    assert pushed.arrays is not None
    assert free.arrays is not None
    assert float((pushed.arrays - plain.arrays).mean()) == pytest.approx(0.4, abs=0.01)
    assert float((plain.arrays - free.arrays).mean()) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("sampling", [{}, {"churn": 30}, {"sampler": "dpmpp-2m", "guidance": 2}])
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_how_many_go_together_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, sampling: dict[str, Any], chunk: int
) -> None:
    """In a closed-form denoiser the pixels are equal, too; and all reach a level before it is shown."""
    said, whole = drawn(asked(count=7, **sampling))
    monkeypatch.setattr(drawing, "PIXELS_PER_CALL", chunk * 24)
    assert images_per_call((4, 6)) == chunk
    denoiser = ByClass()
    parted_said, parted = drawn(asked(count=7, **sampling), denoiser=denoiser)
    assert np.array_equal(parted.arrays, whole.arrays)
    assert max(denoiser.calls) <= chunk * (2 if sampling.get("guidance") == 2 else 1)
    assert len(denoiser.calls) == whole.nfe * -(-7 // chunk) == len(parted_said)
    shown, parted_shown = ([each for each in every if each is not None] for every in (said, parted_said))
    assert len(shown) == len(parted_shown)
    assert all(np.array_equal(one.images, other.images) for one, other in zip(shown, parted_shown, strict=True))


def test_the_film_has_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    _, end = drawn(asked(count=2, sampler="heun"))
    assert end.film_x is not None
    assert end.film_x0 is not None
    assert end.film_x.shape == end.film_x0.shape == (7, 2, 4, 6, 1)
    assert end.sigmas[0] == 80
    assert end.sigmas[-1] == 0
    assert list(end.sigmas) == sorted(end.sigmas, reverse=True)
    assert np.array_equal(end.film_x0[-1], end.images)
    # x_t is scaled to the data's spread at every level, so that noise is seen as noise and not as black and white
    assert 0.3 < (end.film_x[0].astype(float) / 127.5 - 1).std() < 0.6
    monkeypatch.setattr(drawing, "FILM_BYTES", 3 * 2 * 2 * 24)
    _, thinned = drawn(asked(count=2, sampler="heun"))
    assert thinned.film_x is not None
    assert len(thinned.sigmas) == len(thinned.film_x) <= 4
    assert thinned.sigmas[-1] == 0
    assert np.array_equal(thinned.arrays, end.arrays)
    assert drawn(replace(asked(), film=False))[1].film_x is None


def test_a_picture_s_recipe_is_json_and_draws_it_again() -> None:
    _, end = drawn(asked(["c", "a"], count=3, seed=2**40, guidance=2))
    recipe = json.loads(json.dumps(end.recipe))
    assert recipe["model"] == {"reference": "ref", "name": "name", "hash": "hash", "step": 7}
    assert recipe["environment"]["threads"] >= 1
    _, again = drawn(*with_indices(Draw(6, "ref"), recipe))
    assert np.array_equal(again.arrays, end.arrays)


def test_closing_a_draw_leaves_nothing() -> None:
    denoiser = ByClass()
    path = draw(weights(denoiser), asked())
    next(path)
    path.close()
    assert torch.is_grad_enabled()
    assert len(denoiser.calls) == 1


def test_pixels_are_rounded_and_cut_off() -> None:
    x = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 9.0]).reshape(1, 1, 1, 6)
    assert to_pixels(x)[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


@pytest.mark.parametrize(
    ("request_", "word"),
    [(asked(["unicorn"]), "unicorn"), (asked(count=0), "0 images"), (asked(count=-3), "images")],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(request_: Draw, word: str) -> None:
    with pytest.raises(RequestError) as caught:
        drawn(request_)
    assert word in caught.value.what
    assert caught.value.fix


def test_a_draw_that_runs_away_says_so() -> None:
    with pytest.raises(RequestError) as caught:
        drawn(asked(), denoiser=ByClass(broken=True))
    assert caught.value.field == "sampling.guidance"
    assert caught.value.fix


# --- an opened model ------------------------------------------------------------------------------


def test_a_model_draws_in_one_line(copied_run: Run) -> None:
    model = open_model(copied_run.path, "cpu")
    picture = model.draw(["7"], count=2, seed=3, steps=2)
    assert picture.arrays.shape == (2, 1, 28, 28)
    assert np.abs(picture.arrays).max() <= 1
    assert [image.size for image in picture.images] == [(28, 28)] * 2
    assert picture.labels == (7, 7)
    assert model.facts().choices == tuple("0123456789")
    assert model.facts().emas == (0.0, 0.05, 0.1)
    assert model.facts().ema == 0.05


def test_each_average_draws_with_its_own_weights(copied_run: Run) -> None:
    model = open_model(copied_run.path, "cpu")
    average, raw, own = (model.draw(count=1, steps=2, ema=ema) for ema in (0.05, 0.0, None))
    assert not np.array_equal(average.arrays, raw.arrays)
    assert np.array_equal(average.arrays, own.arrays)
    assert average.recipe["model"]["hash"] != raw.recipe["model"]["hash"]
    rebuilt = model.draw(count=1, steps=2, ema=0.08)
    assert rebuilt.recipe["model"]["hash"] not in (average.recipe["model"]["hash"], raw.recipe["model"]["hash"])
    with pytest.raises(ModelError) as caught:
        model.draw(count=1, ema=0.005)
    assert caught.value.field == "sampling.ema"
    assert "0.1" in caught.value.fix


def test_a_wrong_setting_names_its_field(copied_run: Run) -> None:
    model = open_model(copied_run.path, "cpu")
    with pytest.raises(RecipeError) as caught:
        model.draw(count=1, guidence=2)
    assert "sampling.guidance" in caught.value.fix
    with pytest.raises(RecipeError) as caught:
        model.draw(count=1, steps=0)
    assert caught.value.field == "sampling.steps"
    with pytest.raises(ModelError):
        model.draw_again()
    assert SimpleNamespace(**model.facts().sampling).steps == model.recipe.sampling.steps
