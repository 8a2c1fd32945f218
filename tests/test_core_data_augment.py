"""Random changes to training images, and what the network is told of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from imagen_workbench.core.data.augment import AUGMENTATION_LABELS, augment, augmented, transformed
from imagen_workbench.core.randomness import generator


def test_augmentation_moves_by_so_much_and_no_further() -> None:
    x = torch.zeros(200, 1, 9, 9)
    x[:, :, 4, 4] = 1
    moved = augment(x, 2, generator(0, "augment"), flip=False)
    places = {tuple(divmod(int(image.argmax()), 9)) for image in moved[:, 0]}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(200))


def test_augmentation_mirrors_about_half() -> None:
    x = torch.arange(4.0).expand(400, 1, 1, 4)
    mirrored = augment(x, 0, generator(0, "augment"), flip=True)
    share = float((mirrored[:, 0, 0, 0] == 3).float().mean())
    assert 0.4 < share < 0.6
    assert {tuple(row.tolist()) for row in mirrored[:, 0, 0]} == {(0.0, 1.0, 2.0, 3.0), (3.0, 2.0, 1.0, 0.0)}


def test_no_augmentation_is_none() -> None:
    x = torch.rand(3, 1, 4, 4)
    assert augment(x, 0, generator(0, "augment"), flip=False) is x


# --- augmentation that the network is told of -----------------------------------------------------


def smooth(b: int, c: int, h: int, w: int) -> torch.Tensor:
    """Random images of low frequencies, mirrored at their edges."""
    coarse = torch.rand(b, c, max(2, h // 4), max(2, w // 4), generator=generator(0, "images"))
    return functional.interpolate(coarse, (h, w), mode="bicubic")


def same(b: int) -> torch.Tensor:
    return torch.eye(2).expand(b, 2, 2)


def turned(angle: float) -> torch.Tensor:
    """[1 2 2] by `angle`, anticlockwise, for (right, down)."""
    return torch.tensor([[[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]])


def test_without_a_chance_nothing_is_touched() -> None:
    x, numbers = torch.rand(5, 3, 8, 12), generator(0, "augment")
    before = numbers.get_state()
    changed, labels = augmented(x, 0.0, numbers)
    assert changed is x
    assert torch.equal(labels, torch.zeros(5, AUGMENTATION_LABELS))
    assert torch.equal(numbers.get_state(), before)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 40), (7, 33, 17), (2, 4, 4)])
def test_resampling_without_a_change_gives_every_pixel_back(shape: tuple[int, int, int]) -> None:
    """Of noise, too, where every frequency counts."""
    x = 2 * torch.rand(3, *shape, generator=generator(0, "noise")) - 1
    assert torch.allclose(transformed(x, same(3), torch.zeros(3, 2)), x, atol=0.01)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_by_quarters_is_exact(quarters: int) -> None:
    x = 2 * torch.rand(1, 3, 18, 18, generator=generator(0, "noise")) - 1
    moved = transformed(x, turned(quarters * math.pi / 2), torch.zeros(1, 2))
    assert torch.allclose(moved, torch.rot90(x, quarters, (-2, -1)), atol=0.01)


def test_shifting_by_whole_pixels_is_exact_and_edges_are_mirrored() -> None:
    x = 2 * torch.rand(1, 2, 12, 16, generator=generator(0, "noise")) - 1
    moved = transformed(x, same(1), torch.tensor([[3 / 16, -2 / 12]]))
    assert torch.allclose(moved[..., :-2, 3:], x[..., 2:, :-3], atol=0.01)
    assert torch.allclose(moved[..., :-2, :3], x[..., 2:, :3].flip(-1), atol=0.01)
    assert torch.allclose(moved[..., -2:, 3:], x[..., -2:, :-3].flip(-2), atol=0.01)


def test_a_wave_is_scaled_to_the_wave_of_the_scaled_length() -> None:
    """cos(2πx/λ) about the middle, larger by 1.5, is cos(2πx/(1.5 λ)): reading between the pixels is right."""
    across = torch.arange(48) - 23.5
    wave = torch.cos(2 * math.pi * across / 8).expand(1, 1, 48, 48)
    expected = torch.cos(2 * math.pi * across / 12).expand(1, 1, 48, 48)
    assert torch.allclose(transformed(wave, 1.5 * same(1), torch.zeros(1, 2)), expected, atol=0.02)


def test_shrinking_is_antialiased() -> None:
    """A wave too fine for the smaller image becomes grey, not another wave."""
    wave = torch.cos(math.pi * 0.9 * torch.arange(64)).expand(1, 1, 64, 64)
    assert transformed(wave, 0.5 * same(1), torch.zeros(1, 2)).abs().mean() < 0.05 * wave.abs().mean()


def test_all_one_colour_stays_all_one_colour() -> None:
    x = torch.full((20, 3, 12, 20), 0.7)
    changed, labels = augmented(x, 1.0, generator(1, "augment"))
    assert (labels != 0).any()
    assert torch.allclose(changed, x, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 40), (5, 9, 7)])
def test_it_depends_on_its_generator_alone(shape: tuple[int, int, int]) -> None:
    x = torch.rand(6, *shape, generator=generator(0, "images"))
    before = torch.get_rng_state()
    first, second, third = (augmented(x, 0.5, generator(seed, "augment")) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], third[1])
    assert first[0].shape == x.shape
    assert first[1].shape == (6, AUGMENTATION_LABELS)
    assert first[1].dtype == torch.float32


def test_an_image_of_zeros_in_its_labels_is_as_it_was() -> None:
    x = torch.rand(200, 1, 8, 8, generator=generator(0, "images"))
    changed, labels = augmented(x, 0.12, generator(0, "augment"))
    clean = (labels == 0).all(dim=1)
    assert 0.1 < clean.float().mean() < 0.5
    assert torch.equal(changed[clean], x[clean])


def test_each_change_has_its_chance() -> None:
    """Mirroring always, at one half; the rest with chance p, mirroring top to bottom at half of that."""
    p, b = 0.3, 4000
    _, labels = augmented(torch.zeros(b, 1, 4, 4), p, generator(0, "augment"))
    shares = (labels != 0).float().mean(dim=0)
    expected = torch.tensor([0.5, p / 2, p, p, p, p, p, p, p])
    assert torch.allclose(shares, expected, atol=4 * (0.25 / b) ** 0.5)
    scales = labels[labels[:, 2] != 0, 2]
    assert abs(float(scales.std()) - 1) < 0.1


def test_labels_tell_what_was_done() -> None:
    """Each image is changed again by the transformation that its labels describe, written out here anew."""
    x = smooth(40, 2, 24, 32)
    changed, labels = augmented(x, 1.0, generator(5, "augment"))
    for image, found, label in zip(x, changed, labels, strict=True):
        flips = [dim for dim, flag in ((-1, label[0]), (-2, label[1])) if flag]
        angle = float(torch.atan2(label[4], label[3] + 1))
        stretch, axis = float(label[5:7].norm()), float(torch.atan2(label[6], label[5])) / 2
        along = torch.diag(torch.tensor([2 ** (0.2 * stretch), 2 ** (-0.2 * stretch)]))
        linear = turned(angle) @ (turned(axis) @ along @ turned(-axis)) * 2 ** (0.2 * float(label[2]))
        again = transformed(image.flip(flips)[None], linear, 0.125 * label[None, 7:])
        assert torch.allclose(again[0], found, atol=1e-3)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(4, 20), st.integers(4, 20), st.floats(0.01, 1))
def test_any_channels_and_sizes(channels: int, height: int, width: int, p: float) -> None:
    x = torch.rand(2, channels, height, width, generator=generator(0, "images"))
    changed, labels = augmented(x, p, generator(7, "augment"))
    assert changed.shape == x.shape
    assert torch.isfinite(changed).all()
    assert torch.isfinite(labels).all()
