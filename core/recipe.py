"""The typed description of a run: its data, conditions, network, training and drawing.

Frozen, read from and written to TOML. Every field carries its label, help, unit and range, from
which the faces make their forms and the command line its messages.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import RecipeError
from .faults import dotted_keys, explained, unknown_key
from .migration import migrated

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 2
REBUILT = (0.02, 0.25)
"""EMA lengths that can be rebuilt from the snapshots of a run."""


def setting(default: Any, label: str, help: str, *, unit: str = "", above: str = "", **limits: Any) -> Any:
    """A recipe field: default, short label, one sentence of help, unit, and pydantic's limits (ge, le, …).

    above: what happens beyond the upper limit, as a sentence.
    """
    return Field(default, title=label, description=help, json_schema_extra={"unit": unit, "above": above}, **limits)


class Section(BaseModel):
    """A frozen table of the recipe; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Size = Annotated[int, Field(ge=4, le=1024)]


class Part(Section):
    """One of several datasets that are mixed."""

    source: str = Field(
        min_length=1, title="Source", description="Which dataset plugin these images come from.", pattern=r"^[^+]+$"
    )
    path: str = setting("", "Folder", "Where the source reads from, for sources that read from a place.")
    weight: float = setting(
        1.0,
        "Weight",
        "How often its images are shown while training, beside the other parts' weights, whatever its size.",
        gt=0,
        le=1000,
    )
    most: int = setting(0, "At most", "Only so many of the source's images are used; 0 takes all.", unit="images", ge=0)
    options: dict[str, Any] = setting({}, "Options", "The source's own settings.")

    @property
    def name(self) -> str:
        """ "image-folder leaves", after source and folder."""
        place = self.path.replace("\\", "/").rstrip("/").rpartition("/")[2]
        return f"{self.source} {place}" if place else self.source


class Data(Section):
    source: str = setting(
        "digits", "Source", "Which dataset plugin the images come from. Of several parts, it says which they are."
    )
    path: str = setting("", "Folder", "Where the source reads from, for sources that read from a place.")
    size: tuple[Size, Size] = setting((28, 28), "Size", "Height and width that images are brought to.", unit="px")
    channels: int = setting(
        1,
        "Channels",
        "1 for grey, 3 for colour, 4 for colour with transparency, or as many as the source's arrays have.",
        ge=1,
        le=64,
    )
    depth: Literal[8, 16] = setting(8, "Depth", "Bits that each value is kept with.", unit="bits")
    fit: Literal["crop", "pad", "stretch"] = setting(
        "crop",
        "Fit",
        "How other shapes are brought to size: the middle cut out, bars added, or stretched.",
    )
    validation: float = setting(
        0.1,
        "Held out",
        "Images kept from training to measure on: a share below 1, or a count from 1 upward.",
        ge=0,
    )
    shift: int = setting(
        0, "Shift", "Images are moved at random by up to this many pixels while training.", unit="px", ge=0, le=64
    )
    flip: bool = setting(
        default=False, label="Mirror", help="Images are mirrored left to right at random while training."
    )
    augment: float = setting(
        0.0,
        "Augmentation",
        "Chance of each change of shape or place while training; the network is told of it, so samples stay clean.",
        ge=0,
        le=1,
    )
    most: int = setting(0, "At most", "Only so many of the source's images are used; 0 takes all.", unit="images", ge=0)
    options: dict[str, Any] = setting({}, "Options", "The source's own settings.")
    parts: tuple[Part, ...] = setting(
        (), "Parts", "Several datasets, mixed by weight, in place of source, path, most and options.", max_length=16
    )
    buckets: tuple[tuple[Size, Size], ...] = setting(
        (),
        "Buckets",
        "Further heights and widths: each image is brought to the one whose shape is nearest to its own.",
        unit="px",
        max_length=32,
    )

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) that images are brought to: `size`, then the buckets that are others."""
        return tuple(dict.fromkeys((self.size, *self.buckets)))

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) that holds each of `shapes`."""
        return max(height for height, _ in self.shapes), max(width for _, width in self.shapes)

    def of_shape(self, shape: tuple[int, int]) -> Data:
        """The settings that an image of one bucket is read with."""
        return self.model_copy(update={"size": shape, "buckets": ()})

    def of_part(self, part: Part) -> Data:
        """The settings that a part is read with."""
        own = {"source": part.source, "path": part.path, "most": part.most, "options": part.options}
        return self.model_copy(update={**own, "parts": ()})

    @model_validator(mode="before")
    @classmethod
    def _named_after_parts(cls, values: Any) -> Any:
        """Of parts, `source` is left out, or filled in by us: "digits + image-folder"."""
        if not isinstance(values, dict):
            return values
        tables = cast("dict[str, Any]", values)
        parts = tables.get("parts")
        if not isinstance(parts, list | tuple) or not parts:
            return tables
        names = [_source_of(part) for part in cast("list[object]", parts)]
        if not all(names):
            return tables  # which is an error of its own
        joined = " + ".join(names)
        given = tables.get("source", joined)
        if given != joined and "+" not in str(given):
            raise ValueError(f"source: {given} where there are parts; leave it out, or empty data.parts")
        return {**tables, "source": joined}

    @model_validator(mode="after")
    def _each_part_has_its_own(self) -> Self:
        if len(self.parts) == 1:
            raise ValueError("parts: one part is no mixture; write it as source and path, or add another")
        for name in ("path", "most", "options") if self.parts else ():
            if getattr(self, name):
                raise ValueError(f"{name}: each of the parts has its own; write it into [[data.parts]]")
        return self

    @model_validator(mode="after")
    def _alike_in_area(self) -> Self:
        area = self.size[0] * self.size[1]
        for height, width in self.buckets:
            if not area / 2 <= height * width <= 2 * area:
                raise ValueError(
                    f"buckets: {height} × {width} is {height * width / area:.2g} times the area of data.size; "
                    "keep all of them between half and twice"
                )
        return self

    @model_validator(mode="after")
    def _whole_count(self) -> Self:
        if self.validation >= 1 and self.validation != math.floor(self.validation):
            raise ValueError("validation: a count has no fraction; give a share below 1 or a whole number")
        return self


def _source_of(part: object) -> str:
    """The source's name in a part, as TOML or code gives it; empty where there is none."""
    found = cast("dict[str, object]", part).get("source") if isinstance(part, dict) else getattr(part, "source", None)
    return found if isinstance(found, str) else ""


class Conditioning(Section):
    scheme: str = setting("label", "Scheme", "What the model is told about each image.")
    dropout: float = setting(
        0.1,
        "Without condition",
        "Share of training images that are shown without their condition. Lets guidance work; 0.1 to 0.2 is usual.",
        ge=0,
        le=1,
    )
    options: dict[str, Any] = setting({}, "Options", "The scheme's own settings.")


class Network(Section):
    network: Literal["unet", "transformer"] = setting(
        "unet", "Network", "The kind of denoiser: convolutions on several sizes, or attention over patches."
    )
    width: int = setting(
        48, "Width", "Channels at the finest level, or of a transformer's tokens.", unit="channels", ge=8, le=2048
    )
    multipliers: tuple[Annotated[int, Field(ge=1, le=16)], ...] = setting(
        (1, 2), "Levels", "Width of each level as a multiple, from fine to coarse.", min_length=1, max_length=6
    )
    blocks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = setting(
        (1, 3), "Blocks", "Residual blocks of each level, from fine to coarse.", min_length=1, max_length=6
    )
    attention: tuple[Annotated[int, Field(ge=0, le=5)], ...] = setting(
        (1,), "Attention", "Levels that attend over the whole image; 0 is the finest.", max_length=6
    )
    stem: Literal[1, 2, 4, 8] = setting(
        2, "Patch", "Pixels folded into channels before the first level; larger is faster and coarser.", unit="px"
    )
    coordinates: bool = setting(
        default=False,
        label="Coordinates",
        help="The U-Net is told where in the image it is: for pictures in which places mean something.",
    )
    depth: int = setting(8, "Depth", "Blocks of a transformer.", unit="blocks", ge=1, le=64)
    prediction: Literal["F", "eps", "v", "x0", "velocity"] = setting(
        "F", "Prediction", "What the network gives: EDM's F, the noise, v, the clean image, or the flow's velocity."
    )
    schedule: Literal["edm", "vp-linear", "cosine", "flow"] = setting(
        "edm", "Schedule", "The family of noise levels whose scaling and time the network sees."
    )
    shift: float = setting(
        1.0,
        "Schedule shift",
        "Multiplies the noise levels of the cosine and flow families; size / 64 suits large images.",
        gt=0,
        le=100,
    )
    dropout: float = setting(
        0.0, "Dropout", "Share of activations silenced while training; holds back copying.", ge=0, lt=1
    )
    sigma_data: float = setting(0.5, "Data spread", "Standard deviation of the training images in [-1, 1].", gt=0, le=2)

    @model_validator(mode="after")
    def _same_levels(self) -> Self:
        levels = len(self.multipliers)
        if len(self.blocks) != levels:
            raise ValueError(
                f"blocks: {len(self.blocks)} levels where multipliers has {levels}; give one for each level"
            )
        if any(level >= levels for level in self.attention):
            raise ValueError(f"attention: there is no level {max(self.attention)}; the coarsest is {levels - 1}")
        return self


class Training(Section):
    steps: int = setting(3000, "Steps", "Optimizer steps in all.", unit="steps", ge=1, le=100_000_000)
    batch: int = setting(64, "Batch", "Images in one step.", unit="images", ge=1, le=65_536)
    micro_batch: int = setting(
        64,
        "Chunk",
        "Images in one pass through the network; the worker can turn to a draw between passes.",
        unit="images",
        ge=1,
        le=65_536,
    )
    learning_rate: float = setting(
        0.002,
        "Learning rate",
        "Size of the optimizer's steps; 0.001 to 0.003 suits small networks.",
        above="Above 0.05 training diverges",
        gt=0,
        le=0.05,
    )
    optimizer: Literal["muon", "adam"] = setting(
        "muon", "Optimizer", "Muon makes its steps orthogonal and learns faster per image; Adam is the usual one."
    )
    matrix_rate: float = setting(
        3.0, "Matrix rate", "Muon's step for matrices, as a multiple of the learning rate.", gt=0, le=100
    )
    warmup: float = setting(0.02, "Warm-up", "Share of the steps over which the rate rises from 0.", ge=0, le=1)
    decay: float = setting(0.4, "Decay", "Share of the steps over which the rate falls to 0.", ge=0, le=1)
    weight_decay: float = setting(0.0, "Weight decay", "Pull of the weights towards 0.", ge=0, le=1)
    clip: float = setting(1.0, "Gradient clip", "Gradients longer than this are shortened to it.", gt=0)
    emas: tuple[Annotated[float, Field(ge=0.01, le=0.25)], ...] = setting(
        (0.05, 0.1),
        "EMA lengths",
        "Widths of the weight averages as shares of training; the first one draws, two give any other afterwards.",
        min_length=1,
        max_length=4,
    )
    noise: Literal["lognormal", "log-uniform", "schedule"] = setting(
        "lognormal", "Noise levels", "How training spreads over σ; schedule takes the model's own family."
    )
    sigma_mean: float = setting(-1.2, "Noise mean", "Mean of ln σ over training (P_mean of EDM).", ge=-10, le=10)
    sigma_std: float = setting(1.2, "Noise spread", "Spread of ln σ over training (P_std of EDM).", gt=0, le=10)
    sigma_min: float = setting(0.002, "Lowest noise", "Where log-uniform and schedule noise levels begin.", gt=0, le=10)
    sigma_max: float = setting(
        80.0, "Highest noise", "Where log-uniform and schedule noise levels end.", gt=0, le=100_000
    )
    weighting: Literal["edm", "simple", "min-snr", "soft-min-snr", "uncertainty"] = setting(
        "edm", "Loss weight", "How much each noise level counts; uncertainty learns it (EDM2)."
    )
    snr_cap: float = setting(5.0, "SNR cap γ", "Where min-SNR stops to favour clean images.", gt=0, le=1000)
    rollbacks: int = setting(
        3, "Roll-backs", "Returns to the last saved state, with other noise, before a run gives up.", ge=0, le=100
    )
    compile: bool = setting(
        default=False, label="Compile", help="Compiles the network first, where there is a compiler: slow start."
    )
    checkpoint_every: int = setting(500, "Save every", "Steps between two saved states.", unit="steps", ge=1)
    preview_every: int = setting(
        150, "Samples every", "Steps between two rows of fixed-seed samples.", unit="steps", ge=1
    )
    validate_every: int = setting(
        150, "Measure every", "Steps between two measurements of the held-out loss.", unit="steps", ge=1
    )
    seed: int = setting(
        0, "Seed", "Decides the first weights, the order of the data and the noise.", ge=0, le=2**63 - 1
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device", "Where the network runs.")
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "float32", "Precision", "Number format inside the network; auto takes bfloat16 where it is fast."
    )


class Finetune(Section):
    """Where a run that continues another model came from."""

    base: str = setting("", "Base", "The model whose weights this run starts from; empty starts from random ones.")
    hash: str = setting("", "Base's hash", "Over the base's weights; filled in when the run begins.")
    rate: float = setting(
        0.3, "Rate", "Learning rate as a share of the recipe's; small steps keep what the base knows.", gt=0, le=1
    )


class Stage(Section):
    """One model of a cascade, in its order."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^[\w-]+$", title="Name", description="What it is called.")
    model: str = Field(
        min_length=1, title="Model", description="What draws: a run folder, a model file, or a bundled name."
    )
    recipe: str = setting("", "Recipe", "What trains it: a recipe file, or a bundled recipe's name.")
    noise: float = setting(
        0.0, "Noise", "Share of noise on the picture of the stage before; more lets this one change more.", ge=0, lt=1
    )
    guidance: float | None = setting(None, "Strength w", "Of this stage; empty takes its recipe's own.", ge=0, le=20)
    steps: int | None = setting(None, "Steps", "Of this stage; empty takes its recipe's own.", ge=1, le=1000)


class Sampling(Section):
    size: tuple[Size, Size] | None = setting(
        None,
        "Size",
        "Height and width of what is drawn; empty for that of the data, which is what was learned.",
        unit="px",
    )
    sampler: Literal[
        "euler",
        "heun",
        "dpmpp-2m",
        "dpmpp-2m-sde",
        "unipc",
        "ddim",
        "ddpm",
        "langevin",
        "predictor-corrector",
    ] = setting("heun", "Sampler", "How the path from noise to image is followed.")
    steps: int = setting(18, "Steps", "Noise levels on the way; more is finer and slower.", ge=1, le=1000)
    grid: Literal["karras", "exponential", "cosine", "flow", "measured"] = setting(
        "karras", "Levels", "How the noise levels are spread; measured suits them to the model at hand."
    )
    guidance: float = setting(
        1.5,
        "Strength w",
        "1 follows the condition as learned; more pushes towards it and narrows the variety.",
        ge=0,
        le=20,
    )
    guidance_from: float = setting(
        0.0, "Guided from", "Guidance acts on noise levels above this one.", unit="σ", ge=0, le=100
    )
    guidance_to: float = setting(
        1000.0, "Guided up to", "Guidance acts on noise levels up to this one.", unit="σ", gt=0, le=100_000
    )
    threshold: Literal["none", "static", "dynamic"] = setting(
        "none", "Threshold", "Keeps each step's clean image in range: cut off, or scaled (Imagen)."
    )
    percentile: float = setting(
        0.995, "Percentile", "Share of values that dynamic thresholding takes to be in range.", gt=0, le=1
    )
    density: float = setting(
        0.5,
        "Density",
        "0.50 leaves the density as it is; higher draws smoother, more likely images.",
        ge=0.01,
        le=0.99,
    )
    temperature: float = setting(
        1.0, "Temperature", "Scales the starting noise; below 1 draws closer to the mean image.", ge=0, le=2
    )
    seed: int = setting(0, "Seed", "Decides the starting noise: same seed, same images.", ge=0, le=2**63 - 1)
    ema: float | None = setting(
        None, "EMA length", "Which weights draw: empty for the trained average, 0 for the raw weights.", ge=0, le=0.25
    )
    sigma_min: float = setting(0.002, "Lowest noise", "The last noise level before 0.", gt=0, le=10)
    sigma_max: float = setting(80.0, "Highest noise", "The noise level that images start from.", gt=0, le=100_000)
    rho: float = setting(7.0, "Spacing ρ", "How strongly Karras levels crowd towards low noise.", ge=1, le=100)
    shift: float = setting(
        1.0, "Shift", "Multiplies the levels of the cosine and flow grids within their range.", gt=0, le=100
    )
    levels: tuple[Annotated[float, Field(gt=0, le=100_000)], ...] = setting(
        (), "Own levels", "Falling noise levels to use instead; 0 is added.", max_length=1000
    )
    churn: float = setting(
        0.0, "Churn", "Fresh noise stirred in on the way (S_churn of EDM; Heun only).", ge=0, le=1000
    )
    eta: float = setting(
        1.0, "Fresh noise η", "Share of each step's noise that is new (DDPM and SDE samplers); 0 is DDIM.", ge=0, le=1
    )
    corrections: int | None = setting(
        None,
        "Corrections",
        "Langevin steps at each noise level; empty for the sampler's own, 5 for Langevin and 1 for the corrector.",
        ge=1,
        le=100,
    )
    corrector_snr: float | None = setting(
        None,
        "Correction ρ",
        "Size of a Langevin step, its noise against its pull; empty for the sampler's own, 0.5 and 0.16.",
        gt=0,
        le=1,
    )

    @property
    def langevin(self) -> tuple[int, float]:
        """Corrections at each level, and their size: as set, or the sampler's own."""
        steps, snr = (5, 0.5) if self.sampler == "langevin" else (1, 0.16)
        return self.corrections or steps, self.corrector_snr or snr

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min: {self.sigma_min:g} is not below sigma_max, {self.sigma_max:g}; lower it")
        if self.guidance_from >= self.guidance_to:
            raise ValueError(
                f"guidance_from: {self.guidance_from:g} is not below guidance_to, {self.guidance_to:g}; lower it"
            )
        if any(low >= high for high, low in itertools.pairwise(self.levels)):
            raise ValueError("levels: they do not fall; give them from the noisiest down")
        return self


class Recipe(Section):
    """Everything that decides a run. Same recipe, same machine, same weights."""

    version: Literal[2] = VERSION
    name: str = Field(default="untitled", min_length=1, max_length=120, pattern=r"^[^/\\\x00]+$", title="Name")
    data: Data = Data()
    conditioning: Conditioning = Conditioning()
    model: Network = Network()
    training: Training = Training()
    sampling: Sampling = Sampling()
    finetune: Finetune = Finetune()
    stages: tuple[Stage, ...] = Field(
        default=(),
        title="Stages",
        description="Models that each draw larger what the one before has drawn.",
        max_length=8,
    )

    @model_validator(mode="after")
    def _different_stages(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("stages: two of them have the same name")
        return self

    @classmethod
    def of(cls, tables: dict[str, Any], *, file: object = "") -> Recipe:
        """Validates nested tables, as TOML gives them.

        Raises RecipeError naming the dotted key; an unknown key gets the nearest known one.
        """
        try:
            return cls.model_validate(migrated(tables))
        except ValidationError as error:
            raise explained(error, cls, file) from error

    @classmethod
    def from_toml(cls, text: str, *, file: object = "") -> Recipe:
        """Reads TOML text. Raises RecipeError with the line where it is not TOML."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"not TOML: {error}", file=file, fix="Mend that line") from error
        except RecursionError as error:
            raise RecipeError("not TOML: nested too deeply", file=file) from error
        return cls.of(tables, file=file)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Reads a recipe file. Raises RecipeError where there is none or it cannot be used."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise RecipeError("no such recipe file", file=path, fix="Check the path") from error
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot be read as text: {error}", file=path) from error
        return cls.from_toml(text, file=path)

    def to_toml(self) -> str:
        """TOML text; None is left out, since TOML has no null."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def with_values(self, values: dict[str, Any]) -> Recipe:
        """A new recipe with dotted keys replaced (`{"training.steps": 100, "data.parts.0.weight": 2}`).

        Raises RecipeError.
        """
        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        for key, value in values.items():
            *parents, leaf = key.split(".")
            table = tables
            for parent in parents:
                inside = _inside(table, parent, key)
                if not isinstance(inside, dict | list):
                    raise unknown_key(key, Recipe)
                table = cast("dict[str, Any]", inside)
            if isinstance(table, list):
                raise unknown_key(key, Recipe)
            if key == "data.parts" and value:
                tables["data"].pop("source", None)  # it is named after them
            if value is None:
                table.pop(leaf, None)
            else:
                table[leaf] = value
        return Recipe.of(tables)


def _inside(table: dict[str, Any] | list[Any], key: str, field: str) -> Any:
    """What a table has under a key, or a list of tables at a place; None where there is nothing.

    Raises RecipeError where a list is not that long.
    """
    if isinstance(table, dict):
        return table.get(key)
    if key.isdecimal() and int(key) >= len(table):
        raise RecipeError(f"there are {len(table)}, counted from 0", field=field, fix="Give the number of one of them")
    return table[int(key)] if key.isdecimal() else None


def known_keys() -> list[str]:
    """All dotted keys of a recipe, in order (`training.steps`, …)."""
    return dotted_keys(Recipe)


def recipe_schema() -> dict[str, Any]:
    """A recipe file's JSON schema (draft 2020-12), for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def parse_setting(text: str) -> tuple[str, Any]:
    """`training.steps=100` → ("training.steps", 100): the value is TOML, or else text.

    Raises RecipeError where there is no `=`.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise RecipeError(f"{text!r} is not KEY=VALUE", fix="Write for example training.steps=2000")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
