"""Denoisers: both networks under their contracts, the parts they are built of, and what trains which of them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.denoisers.attention import Attention, Text, attend
from imagen_workbench.core.denoisers.conditioned import Inputs
from imagen_workbench.core.denoisers.layers import initialise, pad_to_multiple, with_coordinates
from imagen_workbench.core.denoisers.model import DenoisingModel, build_model, make_network
from imagen_workbench.core.denoisers.transformer import PatchTransformer, positions
from imagen_workbench.core.denoisers.unet import UNet
from imagen_workbench.core.errors import RecipeError
from imagen_workbench.core.extensions import bundled_recipes, make_scheme
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Network, Recipe
from imagen_workbench.core.testing import DenoiserContract, NetworkContract
from imagen_workbench.core.testing.denoising import Gaussian
from imagen_workbench.core.training.losses import denoising_loss
from imagen_workbench.core.training.muon import Muon, groups_of, orthogonal
from imagen_workbench.core.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from imagen_workbench.core.conditioning import Condition

CLASSES = Facts(("cat", "dog", "bird"))
SMALL = {
    "unet": {"width": 16, "multipliers": [1, 2], "blocks": [1, 1], "attention": [1], "stem": 2},
    "transformer": {"network": "transformer", "width": 16, "depth": 2, "stem": 4},
}


def small(network: str, **data: object) -> Recipe:
    """A recipe with that network, three channels and classes."""
    return Recipe.of(
        {
            "data": {"size": [11, 14], "channels": 3, **data},
            "model": {**SMALL[network], "dropout": 0.3},
            "conditioning": {"options": {"width": 8}},
        }
    )


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "test"), dtype=dtype)


def stirred(recipe: Recipe, facts: Facts) -> DenoisingModel:
    """A model whose every weight has been moved, so that nothing is zero by its beginning alone."""
    model = build_model(recipe, make_scheme(recipe, facts)).eval()
    random = generator(0, "stir")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return model


# --- networks -------------------------------------------------------------------------------------


class TestUNet(NetworkContract):
    def make_network(self, inputs: Inputs) -> UNet:
        return UNet(inputs, Network.model_validate(SMALL["unet"]))


class TestFlatUNet(NetworkContract):
    """One level, no stem, attention at full size."""

    def make_network(self, inputs: Inputs) -> UNet:
        return UNet(inputs, Network(width=8, multipliers=(1,), blocks=(2,), attention=(0,), stem=1))


class TestPlacedUNet(NetworkContract):
    """Told where in the image it is."""

    def make_network(self, inputs: Inputs) -> UNet:
        return UNet(inputs, Network.model_validate(SMALL["unet"] | {"coordinates": True}))


class TestTransformer(NetworkContract):
    def make_network(self, inputs: Inputs) -> PatchTransformer:
        return PatchTransformer(inputs, Network.model_validate(SMALL["transformer"]))


class TestPixelTransformer(NetworkContract):
    """Each pixel is a token."""

    shape = (3, 4)

    def make_network(self, inputs: Inputs) -> PatchTransformer:
        return PatchTransformer(inputs, Network(network="transformer", width=24, depth=1, stem=1))


# --- denoisers ------------------------------------------------------------------------------------


class TestGaussian(DenoiserContract):
    shape = (3,)
    dtype = torch.float64
    tolerance = 0.0

    def make_denoiser(self) -> Gaussian:
        return Gaussian(torch.tensor([0.1, 0.2, 0.3]), 0.5)


class TestUNetModel(DenoiserContract):
    """Odd sizes, two levels, attention, dropout in the recipe, a class for each image."""

    shape = (3, 11, 14)
    recipe = small("unet")

    def make_denoiser(self) -> DenoisingModel:
        return stirred(self.recipe, CLASSES)

    def make_condition(self, count: int) -> Condition:
        return self.make_denoiser().encode(torch.arange(count) % 3)

    def test_the_condition_is_heard(self) -> None:
        denoise, x, sigma = self.make_denoiser(), torch.ones(2, *self.shape), torch.tensor([1.0, 1.0])
        with torch.no_grad():
            first, second = denoise(x, sigma, denoise.encode(torch.tensor([0, 1])))
        assert not torch.allclose(first, second)


class TestTransformerModel(TestUNetModel):
    recipe = small("transformer")


class TestUnconditionalUNetModel(DenoiserContract):
    shape = (1, 8, 8)
    recipe = Recipe.of(
        {
            "data": {"size": [8, 8], "channels": 1},
            "model": {"width": 8, "multipliers": [1], "blocks": [1], "attention": [0], "stem": 1},
            "conditioning": {"scheme": "none"},
        }
    )

    def make_denoiser(self) -> DenoisingModel:
        return stirred(self.recipe, Facts())


@pytest.mark.parametrize("network", ["unet", "transformer"])
def test_labels_of_augmentation_are_heard_only_where_the_recipe_augments(network: str) -> None:
    for augment in (0.0, 0.12):
        recipe = small(network, augment=augment)
        names = {name for name, _ in make_network(recipe, make_scheme(recipe, CLASSES)).named_parameters()}
        assert ("augmentation.weight" in names) == (augment > 0)


@pytest.mark.parametrize(
    "model",
    [
        {"network": "unet", "width": 9, "attention": []},
        {"network": "unet", "width": 50, "multipliers": [1, 2], "attention": [1]},
        {"network": "unet", "width": 97, "attention": [0]},
        {"network": "transformer", "width": 10},
        {"network": "transformer", "width": 112},
    ],
)
def test_a_width_that_does_not_fit_is_refused_and_the_remedy_works(model: dict[str, object]) -> None:
    recipe = Recipe.of({"model": {"blocks": [1, 1], **model}})
    scheme = make_scheme(recipe, CLASSES)
    with pytest.raises(RecipeError) as caught:
        make_network(recipe, scheme)
    assert caught.value.field == "model.width"
    offered = [int(word) for word in caught.value.fix.split() if word.isdigit()]
    assert offered
    for width in offered:
        make_network(recipe.with_values({"model.width": width}), scheme)


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_is_a_softmax_over_what_is_not_masked(dtype: torch.dtype) -> None:
    q, k, v = (normal(2, 3, n, 8, seed=n, dtype=torch.float64).to(dtype) for n in (4, 6, 6))
    v = normal(2, 3, 6, 8, seed=9, dtype=torch.float64).to(dtype)
    mask = torch.tensor([[1, 1, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    logits = (q.double() @ k.double().mT / math.sqrt(8)).masked_fill(~mask[:, None, None], -math.inf)
    expected = logits.softmax(-1) @ v.double()
    given = attend(q, k, v, mask[:, None, None])
    assert (given.double() - expected).abs().max() < (1e-5 if dtype != torch.float64 else 1e-12)


def test_text_stands_beside_the_image_as_more_keys_and_values() -> None:
    """With the text's projection equal to the image's, n tokens that hear t others are part of n + t tokens."""
    attention = Attention(16, 16)
    initialise(attention, generator(0, "weights"))
    assert attention.text is not None
    tokens, words = normal(2, 5, 16), normal(2, 3, 16, seed=1)
    with torch.no_grad():
        attention.text.weight.copy_(attention.qkv.weight[16:])
        beside = attention(tokens, Text(words, torch.ones(2, 3, dtype=torch.bool)))
        together = attention(torch.cat([tokens, words], dim=1))[:, :5]
    assert torch.allclose(beside, together, atol=1e-6)


def test_the_mean_of_a_text_is_over_its_words() -> None:
    tokens = normal(3, 4, 5)
    there = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    means = Text(tokens, there).mean()
    assert torch.allclose(means[0], tokens[0, :2].mean(0))
    assert torch.equal(means[1], torch.zeros(5))
    assert torch.allclose(means[2], tokens[2].mean(0))


# --- places ---------------------------------------------------------------------------------------


def test_no_two_places_look_alike() -> None:
    waves = positions(5, 9, 32)
    assert waves.shape == (45, 32)
    assert torch.allclose(waves.square().mean(1), torch.ones(45))
    assert (torch.cdist(waves, waves) + torch.eye(45)).min() > 0.3


def test_a_larger_image_continues_a_smaller_one_on_all_sides() -> None:
    small, large = positions(3, 5, 32).unflatten(0, (3, 5)), positions(7, 9, 32).unflatten(0, (7, 9))
    assert torch.equal(large[2:5, 2:7], small)


def test_coordinates_run_from_edge_to_edge() -> None:
    x = normal(2, 3, 3, 5)
    placed = with_coordinates(x)
    assert torch.equal(placed[:, :3], x)
    assert torch.equal(placed[1, 3], torch.tensor([-1.0, 0.0, 1.0])[:, None].expand(3, 5))
    assert torch.equal(placed[1, 4], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).expand(3, 5))


def test_a_unet_with_coordinates_tells_the_middle_of_a_flat_image_from_another_place() -> None:
    """Without, what lies further from the edges than the network sees is all alike."""
    flat, noise = torch.zeros(1, 1, 48, 48), torch.zeros(1)
    middle = (slice(20, 28), slice(20, 28))
    for coordinates in (False, True):
        settings = Network(width=8, multipliers=(1,), blocks=(1,), attention=(), stem=1, coordinates=coordinates)
        network = UNet(Inputs(1), settings).eval()
        initialise(network, generator(0, "weights"))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * normal(*parameter.shape))
            seen = network(flat, noise, None)[0, 0][middle]
        assert (seen.std() > 1e-3) == coordinates


def test_padding_repeats_the_edge_and_leaves_the_rest() -> None:
    x = normal(1, 2, 5, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 8, 4)
    assert torch.equal(padded[..., :5, :3], x)
    assert torch.equal(padded[..., 5:, :3], x[..., -1:, :].expand(-1, -1, 3, -1))
    assert pad_to_multiple(padded, 4) is padded


# --- Muon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonal_keeps_singular_vectors_and_moves_singular_values_by_the_quintic(shape: tuple[int, int]) -> None:
    """f(s) = a s + b s³ + c s⁵, five times, on each singular value of the normalised matrix."""
    matrices = normal(3, *shape, dtype=torch.float64)
    for matrix, given in zip(matrices, orthogonal(matrices), strict=True):
        u, values, vh = torch.linalg.svd(matrix / (matrix.norm() + 1e-7), full_matrices=False)
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        assert torch.allclose(given, u @ values.diag() @ vh, atol=1e-9)


def test_orthogonal_brings_all_singular_values_near_one() -> None:
    """Also where they start a hundred times apart, in float32, and in any scale."""
    u, _, vh = torch.linalg.svd(normal(12, 40), full_matrices=False)
    matrix = u @ torch.logspace(-2, 0, 12).diag() @ vh
    for scale in (1e-6, 1.0, 1e6):
        values = torch.linalg.svdvals(orthogonal(scale * matrix))
        assert values.min() > 0.6
        assert values.max() < 1.2


def test_muon_steps_each_matrix_as_if_it_were_alone() -> None:
    """Those of one shape share their products."""
    weights = [normal(*shape, seed=k) for k, shape in enumerate([(4, 6), (4, 6), (4, 2, 3), (5, 3), (4, 6)])]
    gradients = [normal(*weight.shape, seed=10 + k) for k, weight in enumerate(weights)]

    def stepped(which: list[int]) -> list[Tensor]:
        parameters = [nn.Parameter(weights[k].clone()) for k in which]
        optimizer = Muon([{"params": parameters}], lr=0.1, weight_decay=0.01)
        for _ in range(3):
            for parameter, k in zip(parameters, which, strict=True):
                parameter.grad = gradients[k].clone()
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    together = stepped([0, 1, 2, 3, 4])
    for k, one in enumerate(together):
        (alone,) = stepped([k])
        assert torch.allclose(one, alone, atol=1e-5)
        assert not torch.allclose(one, weights[k], atol=1e-2)


def test_what_is_no_matrix_steps_as_torch_s_adamw() -> None:
    ours, theirs = (nn.Parameter(normal(7)) for _ in range(2))
    muon = Muon([{"params": [ours], "matrices": False}], lr=0.01, weight_decay=0.1)
    adam = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    for k in range(5):
        for parameter, optimizer in ((ours, muon), (theirs, adam)):
            parameter.grad = normal(7, seed=k)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("network", ["unet", "transformer"])
def test_muon_takes_the_matrices_of_the_blocks_and_adam_the_rest(network: str) -> None:
    """Adam keeps the first and the last layer, gains and biases, and all that reads noise level and condition."""
    recipe = small(network, augment=0.1)
    inputs = Inputs(3, vector=8, tokens=5, image=1, augmentation=9)
    model = nn.ModuleDict(
        {
            "encode": make_scheme(recipe, CLASSES).encoder(),
            "network": {"unet": UNet, "transformer": PatchTransformer}[network](inputs, recipe.model),
        }
    )
    matrices, rest = ({id(parameter) for parameter in group["params"]} for group in groups_of(model, 3.0))
    assert not matrices & rest
    inside = {
        "unet": {"conv", "conv1", "conv2", "shortcut", "attention.qkv", "attention.text", "attention.out"},
        "transformer": {"attention.qkv", "attention.text", "attention.out", "mlp.up", "mlp.down"},
    }[network]
    seen = set()
    for name, parameter in model.named_parameters():
        assert (id(parameter) in matrices) != (id(parameter) in rest), name
        owner = name.rpartition(".")[0]
        kind = next((each for each in inside if owner.endswith("." + each)), None)
        assert (id(parameter) in matrices) == (kind is not None and parameter.ndim >= 2), name
        seen.add(kind)
    assert seen >= inside


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["unet", "transformer"])
def test_it_learns_one_batch_by_heart(network: str) -> None:
    """Four images with four labels, the same noise: what is left of the loss falls far below its start of 1."""
    recipe = Recipe.of(
        {
            "data": {"size": [8, 8]},
            "model": {**SMALL[network], "width": 32, "stem": 2, "attention": []},
            "training": {"learning_rate": 0.01},
        }
    )
    model = build_model(recipe, make_scheme(recipe, Facts(("a", "b", "c", "d")))).train()
    optimizer = make_optimizer(model, recipe.training)
    x0, noise, labels = normal(4, 1, 8, 8).clamp(-1, 1), normal(4, 1, 8, 8, seed=1), torch.arange(4)
    sigma = torch.tensor([0.2, 0.5, 1.0, 3.0])
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = denoising_loss(model, x0, sigma, noise, model.encode(labels), 0.5).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = build_model(small("unet"), make_scheme(small("unet"), CLASSES))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RecipeError) as caught:
        model.compile_for_training()
    assert caught.value.field == "training.compile"
    assert "compiler" in caught.value.what
    assert caught.value.fix


COMPILED = """
import sys, torch
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.denoisers.layers import set_dropout_generator
from imagen_workbench.core.denoisers.model import build_model
from imagen_workbench.core.extensions import make_scheme
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.training.losses import denoising_loss
from imagen_workbench.core.training.optimizers import make_optimizer

recipe = Recipe.from_toml(sys.stdin.read())
plain, compiled = (build_model(recipe, make_scheme(recipe, Facts(("cat", "dog")))).train() for _ in range(2))
names = list(compiled.state_dict())
compiled.compile_for_training()
x0, noise = (torch.randn(2, 3, 11, 14, generator=generator(0, "test", 0, k)) for k in range(2))
ends = []
for model in (plain, compiled):
    losses = []
    optimizer = make_optimizer(model, recipe.training)
    for step in range(3):
        set_dropout_generator(model, generator(0, "dropout", 0, step))
        optimizer.zero_grad()
        loss = denoising_loss(model, x0, torch.tensor([0.2, 2.0]), noise, model.encode(torch.tensor([0, 1])), 0.5)
        loss.mean().backward()
        optimizer.step()
        losses.append(float(loss.detach().mean()))
    assert losses[-1] != losses[0]
    ends.append(losses[-1])
assert abs(ends[1] / ends[0] - 1) < 1e-3, ends
assert list(compiled.state_dict()) == names == list(plain.state_dict())
assert [name for name, _ in compiled.named_parameters()] == [name for name, _ in plain.named_parameters()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "transformer"])
@pytest.mark.timeout(900)
def test_a_compiled_network_trains_the_same_tensors_under_the_same_names(network: str) -> None:
    """Dropout and all. In a process of its own: the compiler leaves threads behind."""
    one = {"model.width": 8, "model.multipliers": [1], "model.blocks": [1], "model.attention": [0], "model.depth": 1}
    recipe = small(network).with_values({**one, "training.warmup": 0.0, "training.learning_rate": 0.01})
    child = subprocess.run(
        [sys.executable, "-c", COMPILED], input=recipe.to_toml(), text=True, capture_output=True, check=False
    )
    assert child.returncode == 0, child.stderr


def test_the_default_recipe_s_network_is_the_one_that_its_bundled_weights_were_made_for() -> None:
    """The same names and shapes; how it draws is compared where models are opened."""
    from safetensors import safe_open

    recipe = Recipe.read(bundled_recipes()["digits"])
    model = build_model(recipe, make_scheme(recipe, Facts(tuple("0123456789"))))
    file = Path(str(bundled_recipes()["digits"])).parent.parent / "models" / "digits.safetensors"
    with safe_open(file, "pt") as stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    assert shapes == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
