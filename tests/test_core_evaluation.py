"""Evaluation: distances against closed forms and SciPy, tables against lists made by hand, copies that were planted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from PIL import Image

from imagen_workbench.core import evaluate, open_model
from imagen_workbench.core.data.cache import Dataset
from imagen_workbench.core.data.split import content_hash
from imagen_workbench.core.datasets import read
from imagen_workbench.core.denoisers.layers import initialise
from imagen_workbench.core.errors import RequestError
from imagen_workbench.core.evaluation import copies as copying
from imagen_workbench.core.evaluation import kept as kept_classifiers
from imagen_workbench.core.evaluation import samples as sampling
from imagen_workbench.core.evaluation.agreement import Share, agreement
from imagen_workbench.core.evaluation.classify import Classifier, judge, judge_in_turns, train_classifier
from imagen_workbench.core.evaluation.copies import copies, nearest
from imagen_workbench.core.evaluation.evaluate import evaluating
from imagen_workbench.core.evaluation.frechet import Gaussian, fitted, frechet_distance
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.evaluation.kept import classifier_of
from imagen_workbench.core.evaluation.pixels import pixel_statistics
from imagen_workbench.core.evaluation.turns import Turn
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.generators import finish, retold
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.runs.folder import Run


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def spread(random: np.random.Generator, d: int, rank: int | None = None) -> np.ndarray:
    """A covariance [d d] of this rank."""
    factor = random.normal(size=(d, rank or d))
    return factor @ factor.T / d


class TestFrechetDistance:
    def test_of_equal_gaussians_is_zero(self, random: np.random.Generator) -> None:
        for rank in (8, 3, 1):
            same = Gaussian(random.normal(size=8), spread(random, 8, rank))
            assert frechet_distance(same, same) < 1e-12

    def test_of_axis_aligned_gaussians_is_their_closed_form(self, random: np.random.Generator) -> None:
        means, spreads = random.normal(size=(2, 6)), random.uniform(0, 2, size=(2, 6))
        spreads[0, 2] = 0
        found = frechet_distance(*(Gaussian(m, np.diag(s**2)) for m, s in zip(means, spreads, strict=True)))
        assert found == pytest.approx(((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum())

    def test_agrees_with_scipy_s_matrix_root(self, random: np.random.Generator) -> None:
        a, b = (Gaussian(random.normal(size=12), spread(random, 12)) for _ in range(2))
        root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
        expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root.real)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
        assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)

    def test_is_exact_where_covariances_are_singular(self, random: np.random.Generator) -> None:
        turned = np.linalg.qr(random.normal(size=(9, 9)))[0]
        spreads = np.zeros((2, 9))
        spreads[0, :3], spreads[1, 2:5] = (1, 2, 3), (5, 1, 2)
        a, b = (Gaussian(np.zeros(9), turned @ np.diag(s**2) @ turned.T) for s in spreads)
        assert frechet_distance(a, b) == pytest.approx(((spreads[0] - spreads[1]) ** 2).sum(), rel=1e-12)

    def test_fits_mean_and_unbiased_covariance(self, random: np.random.Generator) -> None:
        features = random.normal(size=(50, 4)).astype(np.float32)
        found = fitted(features)
        assert np.allclose(found.mean, features.mean(0, dtype=np.float64))
        assert np.allclose(found.covariance, np.cov(features.astype(np.float64), rowvar=False))

    def test_falls_with_the_number_of_images_of_one_kind(self, random: np.random.Generator) -> None:
        reference = fitted(random.normal(size=(20_000, 16)))
        few, many = (frechet_distance(fitted(random.normal(size=(n, 16))), reference) for n in (100, 1600))
        assert 8 < few / many < 32


class TestAgreement:
    WANTED = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    ANSWERS = np.array([0, 0, 1, 1, 1, 2, 0, 2])

    def test_scores_are_those_counted_by_hand(self) -> None:
        found = agreement(self.WANTED, self.ANSWERS, ("a", "b", "c", "d"))
        assert (found.accuracy.hits, found.accuracy.count) == (6, 8)
        assert found.confusion == ((2, 1, 0, 0), (0, 2, 0, 0), (1, 0, 2, 0), (0, 0, 0, 0))
        a, b, c, d = found.classes
        assert (a.precision, a.recall, a.support) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
        assert (b.precision, b.recall, b.support) == (pytest.approx(2 / 3), 1, 2)
        assert (c.precision, c.recall, c.f1) == (1, pytest.approx(2 / 3), pytest.approx(4 / 5))
        assert (d.precision, d.recall, d.f1, d.support) == (0, 0, 0, 0)
        assert found.macro.recall == pytest.approx((2 / 3 + 1 + 2 / 3 + 0) / 4)
        assert found.weighted.recall == pytest.approx(6 / 8)

    @pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (986, 1000), (1, 3)])
    def test_the_interval_ends_where_the_share_is_at_its_quantile(self, hits: int, count: int) -> None:
        share = Share(hits, count)
        for end in share.interval:
            assert 0 <= end <= 1
            if 1e-9 < end < 1 - 1e-9:
                assert abs(share.value - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-6)
        low, high = share.interval
        assert low - 1e-12 <= share.value <= high + 1e-12


class TestCopies:
    def test_planted_copies_are_found_at_distance_zero(self, random: np.random.Generator) -> None:
        train, held_out, fresh = (random.uniform(-1, 1, (n, 3, 6, 5)).astype(np.float32) for n in (700, 200, 60))
        planted = random.choice(700, 40, replace=False)
        found = copies(np.concatenate([train[planted], fresh]), train, held_out)
        assert (found.generated[:40] == 0).all()
        assert found.nearest[:40].tolist() == planted.tolist()
        assert (found.generated[40:] > 0.3).all()
        assert 0.4 <= found.near(0.01) <= found.near(0.05) < 0.6
        assert found.near(0.05) - 0.05 > 4 * found.standard_error(0.05)

    def test_images_of_the_same_kind_are_no_copies(self, random: np.random.Generator) -> None:
        train, held_out, fresh = (random.normal(0, 0.3, (n, 1, 4, 4)).astype(np.float32) for n in (500, 400, 400))
        found = copies(fresh, train, held_out)
        assert abs(found.near(0.05) - 0.05) < 4 * found.standard_error(0.05)
        assert found.ratio == pytest.approx(1, abs=0.05)

    def test_the_nearest_is_the_same_whatever_part_of_the_set_is_read_at_once(
        self, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images, among = (random.normal(size=(n, 1, 3, 4)).astype(np.float32) for n in (70, 500))
        every = scipy.spatial.distance.cdist(images.reshape(70, -1), among.reshape(500, -1)) / math.sqrt(12)
        for compared, part_bytes in ((256, 16 << 20), (16, 4 * 12 * 37), (1, 1)):
            monkeypatch.setattr(copying, "COMPARED", compared)
            monkeypatch.setattr(copying, "PART_BYTES", part_bytes)
            distances, which = nearest(images, among)
            assert which.tolist() == every.argmin(axis=1).tolist()
            assert np.allclose(distances, every.min(axis=1), atol=1e-6)

    def test_stored_images_are_read_as_their_array(self, tiny_recipe: Recipe) -> None:
        data = read(tiny_recipe)
        stored = StoredImages(data, data.train[:300])
        whole = stored[:]
        assert whole.dtype == np.float32
        assert (whole.min(), whole.max()) == (-1, 1)
        assert np.array_equal(stored[np.array([5, 2])], whole[[5, 2]])
        assert nearest(stored, whole)[0].max() == 0


class TestPixelStatistics:
    def test_are_those_of_the_whole_array(self, random: np.random.Generator) -> None:
        pixels = np.clip(random.normal(140, 80, (600, 3, 5, 4)), 0, 255).astype(np.uint8)
        images = (pixels / 127.5 - 1).astype(np.float32)
        found = pixel_statistics(images)
        assert np.allclose(found.mean, images.mean(axis=(0, 2, 3)), atol=1e-6)
        assert np.allclose(found.spread, images.std(axis=(0, 2, 3)), atol=1e-6)
        assert np.allclose(found.error, images.mean(axis=(2, 3)).std(axis=0, ddof=1) / math.sqrt(600), atol=1e-6)
        assert found.saturated == pytest.approx(np.isin(pixels, (0, 255)).mean())


@pytest.fixture(scope="module")
def reader_of_digits(_trained: tuple[Path, Path]) -> Classifier:
    """A classifier after two epochs over the 4,000 training digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEN_WORKBENCH_CACHE", str(_trained[1]))
        data = read(Recipe.read(bundled_recipes()["tiny"]))
    return finish(train_classifier(StoredImages(data, data.train), data.labels[data.train], 10, epochs=2))


class TestClassifier:
    def test_knows_held_out_digits_after_two_epochs(self, tiny_recipe: Recipe, reader_of_digits: Classifier) -> None:
        data = read(tiny_recipe.with_values({"data.validation": 1000}))
        judged = finish(judge_in_turns(reader_of_digits, StoredImages(data, data.held_out), ""))
        assert (judged.answers == data.labels[data.held_out]).mean() > 0.9
        assert judged.features.shape == (1000, 64)
        assert judged.features.min() >= 0

    def test_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone(
        self, random: np.random.Generator
    ) -> None:
        images = random.uniform(-1, 1, (40, 2, 9, 12)).astype(np.float32)
        labels = random.integers(0, 3, 40)
        state = torch.get_rng_state()
        first, again, other = (finish(train_classifier(images, labels, 3, epochs=3, seed=s)) for s in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])
        assert not torch.equal(first.logits.weight, other.logits.weight)

    def test_yields_after_every_step(self, random: np.random.Generator) -> None:
        images = random.uniform(-1, 1, (250, 1, 8, 8)).astype(np.float32)
        turns = list(train_classifier(images, np.arange(250) % 2, 2, epochs=2))
        assert turns == [Turn("Training the classifier", step, 4) for step in (1, 2, 3, 4)]

    def test_learns_where_gradients_are_off_outside(self, random: np.random.Generator) -> None:
        dark, bright = random.uniform(-1, -0.2, (30, 1, 6, 6)), random.uniform(0.2, 1, (30, 1, 6, 6))
        images = np.concatenate([dark, bright]).astype(np.float32)
        labels = np.repeat([0, 1], 30)
        with torch.no_grad():
            network = finish(train_classifier(images, labels, 2, epochs=30))
        assert (judge(network, images).answers == labels).all()

    @pytest.mark.parametrize("size", [(4, 4), (28, 28), (5, 130), (200, 96)])
    def test_takes_any_size(self, size: tuple[int, int]) -> None:
        network = Classifier(3, size, 7)
        initialise(network, generator(0, "test"))
        judged = judge(network, np.zeros((2, 3, *size), np.float32))
        assert judged.features.shape == (2, 64)
        assert judged.answers.shape == (2,)


class TestKeptClassifier:
    """One that is kept is the same to the last bit as a fresh one, and only ever that of its images and labels."""

    @pytest.fixture
    def data(self, random: np.random.Generator, homes: Path) -> Dataset:
        """120 small images of two classes."""
        pixels = random.integers(0, 256, (120, 3, 8, 9), np.uint8)
        labels = np.arange(120) % 2
        hashes = np.stack([content_hash(each) for each in pixels])
        which = np.arange(120, dtype=np.int32)
        return Dataset(pixels, labels, labels, which[:100], which[100:], hashes, [""] * 120, (), ("a", "b"))

    def turned(
        self, data: Dataset, which: np.ndarray | None = None, epochs: int = 2, seed: int = 0
    ) -> tuple[int, Classifier]:
        """(turns of training that it took, the classifier)."""
        turns: list[Turn] = []
        which = data.train if which is None else which
        asked = classifier_of(data, which, torch.device("cpu"), epochs=epochs, seed=seed)
        network = finish(retold(asked, turns.append))
        return len(turns), network

    def test_is_a_fresh_one_to_the_last_bit(self, data: Dataset) -> None:
        images, labels = StoredImages(data, data.train), data.labels[data.train]
        fresh = finish(train_classifier(images, labels, 2, epochs=2))
        assert self.turned(data)[0] == 2
        turns, kept = self.turned(data)
        assert turns == 0
        assert not kept.training
        for name, tensor in fresh.state_dict().items():
            assert torch.equal(tensor, kept.state_dict()[name])
        ours, theirs = judge(kept, images[:]), judge(fresh, images[:])
        assert np.array_equal(ours.features, theirs.features)
        assert np.array_equal(ours.answers, theirs.answers)

    def test_is_that_of_its_images_labels_and_recipe_alone(
        self, data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.turned(data)
        assert self.turned(replace(data, names=["other"] * 120))[0] == 0
        assert self.turned(replace(data, labels=1 - data.labels))[0] > 0
        assert self.turned(replace(data, classes=("a", "b", "c")))[0] > 0
        assert self.turned(data, which=data.train[::-1])[0] > 0
        assert self.turned(data, epochs=3)[0] > 0
        assert self.turned(data, seed=1)[0] > 0
        monkeypatch.setattr(kept_classifiers, "FORMAT", kept_classifiers.FORMAT + 1)
        assert self.turned(data)[0] > 0

    @pytest.mark.parametrize("name", ["weights.safetensors", "index.json"])
    @pytest.mark.parametrize("damage", ["cut", "gone", "other"])
    def test_is_trained_anew_where_it_is_damaged(self, data: Dataset, homes: Path, name: str, damage: str) -> None:
        _, first = self.turned(data)
        (file,) = (homes / "cache" / "classifiers").glob(f"*/{name}")
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:40] if damage == "cut" else b"[]")
        turns, again = self.turned(data)
        assert turns == 2
        assert torch.equal(again.logits.weight, first.logits.weight)
        assert self.turned(data)[0] == 0

    def test_is_not_missed_where_the_cache_cannot_be_written(self, data: Dataset, homes: Path) -> None:
        homes.mkdir(parents=True, exist_ok=True)
        (homes / "cache").write_text("in the way")
        assert self.turned(data)[0] == 2
        assert self.turned(data)[0] == 2

    def test_one_that_is_left_in_the_middle_is_not_kept(self, data: Dataset, homes: Path) -> None:
        turns = classifier_of(data, data.train, torch.device("cpu"), epochs=2)
        next(turns)
        turns.close()
        assert not (homes / "cache" / "classifiers").exists()


class TestEvaluation:
    def test_tells_agreement_distance_and_copies_beside_real_images(
        self, tiny_recipe: Recipe, trained_run: Run, reader_of_digits: Classifier
    ) -> None:
        model = open_model(trained_run.path)
        data = read(tiny_recipe.with_values({"data.validation": 1000}))
        settings = model.recipe.sampling.model_copy(update={"steps": 2})
        found = finish(evaluating(model, data, 128, settings, classifier=reader_of_digits))
        assert found.agreement is not None
        assert found.real_agreement is not None
        assert found.distance is not None
        assert found.copies is not None
        assert found.agreement.accuracy.count == 128
        assert [scores.support for scores in found.agreement.classes] == [13] * 8 + [12] * 2
        assert found.real_agreement.accuracy.count == 1000
        assert found.real_agreement.accuracy.value > 0.9
        assert (found.distance.count, found.distance.reference) == (128, 4000)
        assert found.distance.drawn > 3 * found.distance.held_out > 0
        assert len(found.copies.generated) == 128
        assert found.pixels.count == 128
        assert found.notes == ()

    def test_looks_at_the_images_that_the_model_draws_whatever_the_batch(
        self, tiny_recipe: Recipe, trained_run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampling, "CALLS_PER_BATCH", 1)
        model = open_model(trained_run.path)
        few = read(tiny_recipe.with_values({"data.validation": 4800}))
        found = evaluate(model, 40, few, epochs=1, steps=2, seed=3, grid="measured")
        drawn = model.draw(count=40, steps=2, seed=3, grid="measured")
        assert drawn.drawn.images is not None
        assert np.abs(found.evidence.images.astype(int) - drawn.drawn.images).max() <= 1
        assert found.evidence.conditions == drawn.conditions
        assert found.copies is not None
        suspects = np.argsort(found.copies.generated, kind="stable")[: len(found.evidence.suspicious)]
        assert found.evidence.suspicious_indices == tuple(suspects.tolist())

    def test_says_why_there_is_no_distance(self, tiny_recipe: Recipe, trained_run: Run) -> None:
        few = read(tiny_recipe.with_values({"data.validation": 4800}))
        found = evaluate(open_model(trained_run.path), 12, few, epochs=1, steps=1)
        assert found.distance is None
        assert any("too few" in note for note in found.notes)

    def test_without_classes_it_tells_copies_and_pixels_and_says_why(
        self, tiny_recipe: Recipe, trained_run: Run, homes: Path
    ) -> None:
        folder = homes / "pictures"
        folder.mkdir(parents=True)
        data = read(tiny_recipe)
        for index in range(30):
            Image.fromarray(data.pixels[index, 0]).save(folder / f"{index}.png")
        settings = {"data.source": "image-folder", "data.path": str(folder), "data.validation": 10}
        unlabelled = read(
            tiny_recipe.with_values(settings | {"conditioning.scheme": "none", "conditioning.options": {}})
        )
        found = evaluate(open_model(trained_run.path), 10, unlabelled, steps=1)
        assert (found.agreement, found.real_agreement, found.distance) == (None, None, None)
        assert found.copies is not None
        assert found.real_pixels.count == 10
        assert any("no two classes" in note for note in found.notes)
        assert found.evidence.answers == ()

    def test_without_held_out_images_there_is_no_baseline(
        self, tiny_recipe: Recipe, trained_run: Run, reader_of_digits: Classifier
    ) -> None:
        model, data = open_model(trained_run.path), read(tiny_recipe.with_values({"data.validation": 0}))
        found = finish(evaluating(model, data, 4, model.recipe.sampling, classifier=reader_of_digits))
        assert found.agreement is not None
        assert found.copies is None
        assert found.real_agreement is None
        assert any("held out" in note for note in found.notes)

    def test_nothing_to_draw_is_refused(self, tiny_recipe: Recipe, trained_run: Run) -> None:
        with pytest.raises(RequestError, match="at least 1"):
            evaluate(open_model(trained_run.path), 0)

    def test_can_be_left_in_the_middle(self, tiny_recipe: Recipe, trained_run: Run) -> None:
        model = open_model(trained_run.path)
        turns = evaluating(model, read(tiny_recipe), 4, model.recipe.sampling, epochs=1)
        assert next(turns).what == "Training the classifier"
        turns.close()
        assert torch.is_grad_enabled()
