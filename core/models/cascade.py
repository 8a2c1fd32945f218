"""A cascade: a model that draws small, and stages that each draw larger what the one before them has drawn."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..conditioning import Together, keyed_text, keyed_texts
from ..drawing import draw
from ..errors import ModelError, RequestError
from ..recipe import Recipe, Sampling
from .drawer import Drawer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import numpy as np
    import torch

    from ..commands import Draw
    from ..conditioning import ConditioningScheme
    from ..events import Drawn, ModelOpened, Preview
    from ..recipe import Stage
    from .model import Model


@dataclass(frozen=True)
class OpenedStage:
    """What is known of a stage's model once it has been open. weights: their number; size: (height, width)."""

    weights: int
    size: tuple[int, int]
    identity: dict[str, Any]


@dataclass
class Cascade(Drawer):
    """Saharia et al. 2022, Sec. 2.4. Only one stage's model is held at a time.

    What is asked of a draw holds for the first stage; the others take the same seed, and their own settings.
    recipe: the last stage's, with the first one's sampling.
    """

    reference: str
    name: str
    stages: tuple[Stage, ...]
    recipe: Recipe
    device: torch.device
    asked_of: ConditioningScheme
    base: ModelOpened
    opened: tuple[OpenedStage, ...]
    opener: Callable[[str], Model]
    picture: dict[str, Any] = field(default_factory=dict)
    _held: tuple[int, Model] | None = None

    @classmethod
    def open(cls, path: Path, opener: Callable[[str], Model]) -> Cascade:
        """opener: opens a stage's model. Raises ModelError where the file has no stages, or one does not fit the next.

        Paths of models are those of the file's folder.
        """
        recipe = Recipe.read(path)
        if not recipe.stages:
            raise ModelError("has no stages: it is no cascade", file=path, fix="Name a run that was trained with it")

        def opened(reference: str) -> Model:
            beside = path.parent / reference
            return opener(str(beside) if beside.exists() else reference)

        found: list[OpenedStage] = []
        first = last = opened(recipe.stages[0].model)
        for stage in recipe.stages:
            last = first if not found else opened(stage.model)
            if found and last.scheme.picture_key() is None:
                raise ModelError(
                    "takes no picture, so it cannot follow another stage",
                    field=f"stages.{stage.name}",
                    file=path,
                    fix="Train it with the scheme low-resolution",
                )
            if last.recipe.data.channels != first.recipe.data.channels:
                raise ModelError(
                    f"has {last.recipe.data.channels} channels where the first stage has {first.recipe.data.channels}",
                    field=f"stages.{stage.name}",
                    file=path,
                )
            found.append(OpenedStage(last.facts().weights, last.recipe.data.size, last.identity()))
        sampling = first.recipe.sampling.model_copy(update={"size": None})  # the last stage's
        whole = last.recipe.model_copy(update={"sampling": sampling, "name": recipe.name})
        made = cls(
            str(path),
            recipe.name,
            recipe.stages,
            whole,
            first.device,
            first.scheme,
            first.facts(),
            tuple(found),
            opened,
        )
        made._held = (0, first)
        return made

    @property
    def asked(self) -> ConditioningScheme:
        return self.asked_of

    def stage(self, index: int) -> Model:
        """The model of a stage; the one held before is let go."""
        if self._held is None or self._held[0] != index:
            self._held = None
            self._held = (index, self.opener(self.stages[index].model))
        return self._held[1]

    def facts(self, ticket: int = 0) -> ModelOpened:
        return replace(
            self.base,
            ticket=ticket,
            model=self.reference,
            name=self.name,
            weights=sum(stage.weights for stage in self.opened),
            hash=self.identity()["hash"],
            size=self.recipe.data.size,
            shapes=(),
        )

    def identity(self, ema: float | None = None) -> dict[str, Any]:
        first = self.opened[0].identity if ema is None else self.stage(0).identity(ema)
        return self._identity([first, *(stage.identity for stage in self.opened[1:])])

    def _identity(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        """One hash over those of the stages, in their order."""
        whole = hashlib.sha256("".join(stage["hash"] for stage in stages).encode()).hexdigest()
        step = stages[-1]["step"]
        return {"reference": self.reference, "name": self.name, "hash": whole, "step": step, "stages": stages}

    def drawing(self, request: Draw, indices: tuple[int, ...] | None = None) -> Generator[Preview | None, None, Drawn]:
        """As a model's; the pictures grow from stage to stage.

        Raises RequestError where another size is asked for than the last stage draws.
        """
        if request.sampling.size not in (None, self.recipe.data.size):
            height, width = self.recipe.data.size
            raise RequestError(f"a cascade draws {height} × {width}", field="sampling.size", fix="Leave the size out")
        request = replace(request, sampling=request.sampling.model_copy(update={"size": None}))
        images: np.ndarray | None = None
        began = time.perf_counter()
        found: list[Drawn] = []
        for at in range(len(self.stages)):
            found.append((yield from self.stage_drawing(at, request, indices, images)))
            images = found[-1].arrays
            # later stages are told what the first one was: conditions in turn among them
            request = replace(request, conditions=found[0].conditions)
        first, last = found[0], found[-1]
        model = self._identity([{**drawn.recipe["model"], "sampling": drawn.recipe["sampling"]} for drawn in found])
        return replace(
            last,
            labels=first.labels,
            conditions=first.conditions,
            nfe=sum(drawn.nfe for drawn in found),
            seconds=time.perf_counter() - began,
            recipe={**first.recipe, "model": model},
        )

    def stage_drawing(
        self, at: int, request: Draw, indices: tuple[int, ...] | None, pictures: np.ndarray | None
    ) -> Generator[Preview | None, None, Drawn]:
        """One stage's part of a draw, fed with pictures [n c h w] in [-1, 1]; the first stage takes none."""
        if at:
            request = self._request(at, request)
        weights = self.stage(at).drawing_weights(request.sampling.ema)
        return (yield from draw(weights, request, indices, pictures))

    def _request(self, at: int, request: Draw) -> Draw:
        """What is asked of a later stage: of the condition what it understands, and its own settings."""
        stage, model = self.stages[at], self.stage(at)
        given = {key: value for key in ("guidance", "steps") if (value := getattr(stage, key)) is not None}
        settings = model.recipe.sampling.model_copy(update={**given, "seed": request.sampling.seed})
        texts = tuple(_passed_on(text, self.asked, model.scheme, stage.noise) for text in request.conditions)
        return replace(request, model=stage.model, conditions=texts, sampling=Sampling.model_validate(settings))


def _passed_on(text: str, asked: ConditioningScheme, scheme: ConditioningScheme, noise: float) -> str:
    """A first stage's condition as a later one reads it, with the noise of its picture."""
    if not isinstance(scheme, Together):
        return f"noise={noise:g}"
    said: dict[str, str] = {}
    if " AND " not in text:
        known = tuple(asked.parts) if isinstance(asked, Together) else (asked.key,)
        if all(known):
            said = {name: value for name, value in keyed_texts(text, known).items() if name in scheme.parts}
    return keyed_text({**said, f"{scheme.picture_key()}.noise": f"{noise:g}"})
