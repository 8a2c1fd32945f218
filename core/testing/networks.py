"""The contract of a network: what is inside a preconditioned denoiser of images."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from ..conditioning import Condition
from ..denoisers.conditioned import Inputs
from ..denoisers.layers import initialise
from ..precondition import Preconditioning
from ..randomness import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

LABELS = torch.tensor([-1.2, -0.3, 0.2, 0.9])
"""Noise labels of four images: ln(sigma) / 4, over all of its range."""
WORDS = torch.tensor([3, 1, 5, 0])
"""Tokens that each of the four is told; the last one has none."""


class NetworkContract:
    """F(x; noise, cond) → prediction, for any channels, any size, and whatever a condition may hold.

    A subclass gives `make_network(inputs)`: a small one, its parameters empty.
    """

    shape: ClassVar[tuple[int, int]] = (7, 10)
    parts: ClassVar[Inputs] = Inputs(3, vector=6, tokens=5, image=2, augmentation=9)
    """All that a condition can hold. Each part is tried alone and beside the others."""
    tolerance: ClassVar[float] = 1e-4
    """How far a value may come out otherwise where sums are made in another order; outputs are about 1."""
    tolerance_bfloat16: ClassVar[float] = 0.05
    """How far the whole may be off in the short format, as a share of its length."""

    def make_network(self, inputs: Inputs) -> nn.Module:
        raise NotImplementedError

    # --- what the tests are made of -------------------------------------------------------------------

    def _new(self, inputs: Inputs) -> nn.Module:
        network = self.make_network(inputs)
        initialise(network, generator(0, "weights"))
        return network.eval()

    def _stirred(self, inputs: Inputs) -> nn.Module:
        """Every weight moved, so that nothing is zero by its beginning alone."""
        network, random = self._new(inputs), generator(0, "stir")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        return network

    def _variants(self) -> Iterator[Inputs]:
        """Without any part, with each alone, and with all."""
        bare = Inputs(self.parts.channels)
        yield bare
        for name in _part_names():
            yield replace(bare, **{name: getattr(self.parts, name)})
        yield self.parts

    def _x(self, inputs: Inputs, shape: tuple[int, int] | None = None) -> Tensor:
        return torch.randn(len(LABELS), inputs.channels, *(shape or self.shape), generator=generator(0, "x"))

    def _condition(self, inputs: Inputs, seed: int = 0) -> Condition:
        """For four images; the null is left out."""
        random = generator(seed, "condition")

        def numbers(*shape: int) -> Tensor | None:
            made = torch.randn(len(LABELS), *shape, generator=random)
            return made if all(shape) else None

        return Condition(
            vector=numbers(inputs.vector),
            tokens=numbers(5, inputs.tokens),
            mask=torch.arange(5) < WORDS[:, None] if inputs.tokens else None,
            image=numbers(inputs.image, *self.shape),
            augmentation=numbers(inputs.augmentation),
        )

    def _output(self, network: nn.Module, inputs: Inputs, cond: Condition | None) -> Tensor:
        with torch.no_grad():
            return network(self._x(inputs), LABELS, cond)

    # --- the contract ---------------------------------------------------------------------------------

    def test_any_channels_and_any_size(self) -> None:
        """Grey, colour, many; sizes that divide by nothing, and smaller than a patch."""
        for channels in (1, 3, 5):
            inputs = Inputs(channels)
            network = self._stirred(inputs)
            for shape in ((7, 10), (8, 8), (13, 3), (1, 1)):
                x = self._x(inputs, shape)
                with torch.no_grad():
                    given = network(x, LABELS, None)
                assert given.shape == x.shape
                assert torch.isfinite(given).all()

    def test_it_starts_as_zero(self) -> None:
        """So that the first D is c_skip x, and the first loss 1 at every noise level (Karras et al. 2022)."""
        for inputs in self._variants():
            network, cond = self._new(inputs), self._condition(inputs)
            assert not self._output(network, inputs, cond).any()
            edm, x, sigma = Preconditioning(), self._x(inputs), (4 * LABELS).exp()
            with torch.no_grad():
                denoised = edm.denoise(network, x, sigma, cond)
            skip, _ = edm.output(sigma)
            assert torch.equal(denoised, skip.reshape(-1, 1, 1, 1) * x)

    def test_the_generator_alone_decides_the_first_weights(self) -> None:
        before = torch.get_rng_state()
        for first, second in zip(self._new(self.parts).parameters(), self._new(self.parts).parameters(), strict=True):
            assert torch.equal(first, second)
            assert torch.isfinite(first).all()
        assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"

    def test_the_noise_level_is_heard(self) -> None:
        inputs = Inputs(self.parts.channels)
        network, x = self._stirred(inputs), self._x(inputs)[:1].expand(len(LABELS), -1, -1, -1)
        with torch.no_grad():
            given = network(x, LABELS, None)
        assert all((given[k] - given[0]).abs().max() > 10 * self.tolerance for k in range(1, len(LABELS)))

    def test_each_part_of_a_condition_is_heard(self) -> None:
        """Another one gives another image, and so does none; an image without words hears no text."""
        for name in _part_names():
            inputs = replace(Inputs(self.parts.channels), **{name: getattr(self.parts, name)})
            network = self._stirred(inputs)
            told, otherwise, nothing = (
                self._output(network, inputs, cond)
                for cond in (self._condition(inputs), self._condition(inputs, seed=1), None)
            )
            for other in (otherwise, nothing):
                moved = (told - other).abs().amax(dim=(1, 2, 3)) > 10 * self.tolerance
                assert moved.tolist() == [True, True, True, name != "tokens"], name

    def test_parts_may_be_missing(self) -> None:
        """A missing image is zeros, missing labels are those of a clean image, missing words are masked ones."""
        network, cond = self._stirred(self.parts), self._condition(self.parts)
        assert cond.image is not None
        assert cond.augmentation is not None
        assert cond.mask is not None
        for name, nothing in (
            ("image", torch.zeros_like(cond.image)),
            ("augmentation", torch.zeros_like(cond.augmentation)),
            ("mask", torch.zeros_like(cond.mask)),
        ):
            left_out = {"tokens": None, "mask": None} if name == "mask" else {name: None}
            without = self._output(network, self.parts, replace(cond, **left_out))
            with_nothing = self._output(network, self.parts, replace(cond, **{name: nothing}))
            assert torch.isfinite(with_nothing).all()
            assert (without - with_nothing).abs().max() <= self.tolerance, name
        assert torch.isfinite(self._output(network, self.parts, None)).all()

    def test_masked_tokens_are_not_seen(self) -> None:
        network, cond = self._stirred(self.parts), self._condition(self.parts)
        assert cond.tokens is not None
        assert cond.mask is not None
        scrambled = torch.where(cond.mask[..., None], cond.tokens, 7.0 + cond.tokens.flip(-1))
        first = self._output(network, self.parts, cond)
        second = self._output(network, self.parts, replace(cond, tokens=scrambled))
        assert (first - second).abs().max() <= self.tolerance

    def test_an_image_of_another_size_is_brought_to_size(self) -> None:
        """A flat one is the same at any size."""
        inputs = Inputs(self.parts.channels, image=2)
        network = self._stirred(inputs)
        outputs = [
            self._output(network, inputs, Condition(image=torch.full((len(LABELS), 2, *shape), 0.3)))
            for shape in (self.shape, (3, 4), (20, 31))
        ]
        for other in outputs[1:]:
            assert (other - outputs[0]).abs().max() <= self.tolerance

    def test_images_do_not_see_each_other(self) -> None:
        """In another order, and each alone, they come out the same."""
        for inputs in self._variants():
            network, cond, x = self._stirred(inputs), self._condition(inputs), self._x(inputs)
            together, order = self._output(network, inputs, cond), torch.tensor([2, 0, 3, 1])
            with torch.no_grad():
                mixed = network(x[order], LABELS[order], _taken(cond, order))
                assert (mixed - together[order]).abs().max() <= self.tolerance
                for k in range(len(LABELS)):
                    alone = network(x[k : k + 1], LABELS[k : k + 1], cond[k : k + 1])
                    assert (alone - together[k : k + 1]).abs().max() <= self.tolerance

    def test_gradients_reach_every_parameter(self) -> None:
        """None is left over that nothing would ever train."""
        for inputs in self._variants():
            network = self._stirred(inputs)
            network(self._x(inputs), LABELS, self._condition(inputs)).square().mean().backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all(), name
                assert parameter.grad.any(), name

    def test_float64_goes_and_float32_is_near(self) -> None:
        """For likelihoods and orders of convergence, which need the digits."""
        network, cond = self._stirred(self.parts), self._condition(self.parts)
        short = self._output(network, self.parts, cond)
        with torch.no_grad():
            long = network.double()(self._x(self.parts).double(), LABELS.double(), cond)
        assert long.dtype == torch.float64
        assert (long - short).norm() <= self.tolerance * long.norm()

    def test_bfloat16_is_near(self) -> None:
        """Under autocast, as training uses it; gradients, too."""
        network, cond, x = self._stirred(self.parts), self._condition(self.parts), self._x(self.parts)
        network.requires_grad_(requires_grad=False)
        given, slopes = [], []
        for enabled in (False, True):
            leaf = x.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                out = network(leaf, LABELS, cond)
            (slope,) = torch.autograd.grad(out.float().square().sum(), leaf)
            given.append(out.detach().float())
            slopes.append(slope)
        for whole, short in (given, slopes):
            assert (whole - short).norm() <= self.tolerance_bfloat16 * whole.norm()


def _part_names() -> list[str]:
    return [each.name for each in fields(Inputs) if each.name != "channels"]


def _taken(cond: Condition, order: Tensor) -> Condition:
    return replace(cond, **{name: part[order] for name, part in cond.parts()})
