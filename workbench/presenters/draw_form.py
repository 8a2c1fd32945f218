"""The settings of a draw as both faces offer them: in which group, in which order, how far their sliders go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...core.recipe import Sampling
from .forms import FormField, recipe_form

SAMPLER_NAMES = (
    ("heun", "Heun"),
    ("dpmpp-2m", "DPM-Solver++(2M)"),
    ("unipc", "UniPC"),
    ("euler", "Euler"),
    ("ddim", "DDIM"),
    ("ddpm", "DDPM"),
    ("dpmpp-2m-sde", "DPM-Solver++(2M) SDE"),
    ("predictor-corrector", "Predictor-corrector"),
    ("langevin", "Langevin"),
)
"""(the recipe's name, the person's) in the order in which they are offered."""
GRID_NAMES = (
    ("karras", "Karras"),
    ("exponential", "Even in log-SNR"),
    ("cosine", "Cosine"),
    ("flow", "Flow"),
    ("measured", "Measured on the model"),
)
THRESHOLD_NAMES = (("none", "None"), ("static", "Cut off"), ("dynamic", "Dynamic"))


@dataclass(frozen=True)
class DrawControl:
    """key: the setting's name in `sampling`; a slider's range, which what is typed may leave; step: between two stops.

    note: one sentence below; paper: for the tooltip.
    """

    key: str
    kind: Literal["number", "choice"] = "number"
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    integer: bool = False
    logarithmic: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    note: str = ""
    paper: str = ""

    @property
    def field(self) -> FormField:
        return FIELDS[self.key]

    @property
    def help(self) -> str:
        """What it does to the picture, then the paper."""
        return f"{self.field.help} {self.paper}".strip()


SIZE = DrawControl("size", "choice")
"""For models that were trained on several sizes, which are its choices."""
START = (DrawControl("temperature", high=2.0),)
PATH = (
    DrawControl("sampler", "choice", choices=SAMPLER_NAMES),
    DrawControl("steps", low=1, high=100, integer=True, logarithmic=True),
    DrawControl("grid", "choice", choices=GRID_NAMES),
)
GUIDANCE = (
    DrawControl(
        "guidance",
        high=8.0,
        step=0.05,
        note="1 draws as learned; more follows the condition closer, with less variety.",
        paper="Ho and Salimans 2022.",
    ),
    DrawControl(
        "density",
        low=0.3,
        high=0.7,
        note="0.50 leaves the density as it is; higher draws smoother, more likely images.",
        paper="Karczewski, Heinonen and Garg 2025.",
    ),
)
WEIGHTS = (DrawControl("ema", high=0.25),)
MORE = (
    DrawControl("guidance_from", low=0.01, high=100.0, logarithmic=True, paper="Kynkäänniemi et al. 2024."),
    DrawControl("guidance_to", low=0.01, high=100.0, logarithmic=True, paper="Kynkäänniemi et al. 2024."),
    DrawControl("threshold", "choice", choices=THRESHOLD_NAMES, paper="Saharia et al. 2022."),
    DrawControl("churn", high=80.0, step=1.0, paper="Karras et al. 2022."),
    DrawControl("eta"),
    DrawControl("corrections", low=1, high=20, integer=True, logarithmic=True),
)
CONTROLS = (*START, *PATH, *GUIDANCE, *WEIGHTS, *MORE)

FIELDS: dict[str, FormField] = {
    form.key.removeprefix("sampling."): form
    for form in recipe_form(tuple(f"sampling.{key}" for key in Sampling.model_fields if key != "levels"))
}
"""Every setting's label, help and range."""


def why_off(key: str, sampling: Sampling) -> str:
    """Empty, or why a setting has no effect with the others as they are."""
    sampler = sampling.sampler
    match key:
        case "churn" if sampler != "heun":
            return "Only Heun stirs in noise this way."
        case "eta" if sampler not in ("ddpm", "dpmpp-2m-sde"):
            return "Only DDPM and the SDE samplers draw fresh noise."
        case "corrections" if sampler not in ("langevin", "predictor-corrector"):
            return "Only the Langevin samplers correct."
        case _:
            return ""
