"""A cascade's recipe in the training pane: its stages are trained one at a time, each by its own recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import RecipeError
from ...core.recipe import Recipe
from ...core.runs.folder import Run
from .forms import FormField

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ...core.recipe import Stage

STAGE = "stage"
"""The form's key of the choice among them; no key of a recipe."""


@dataclass(frozen=True)
class OpenCascade:
    """path: the recipe's file; stage: the name of the one in the form."""

    path: Path
    recipe: Recipe
    stage: str

    @classmethod
    def opened(cls, path: Path, recipe: Recipe) -> OpenCascade:
        """With the first stage that has not been trained, where there is one."""
        stages = recipe.stages
        places = {each.name: path.parent / each.model for each in stages}
        new = [each for each in stages if not Run(places[each.name]).exists and not places[each.name].is_file()]
        return cls(path.absolute(), recipe, (new or list(stages))[0].name)

    @property
    def _chosen(self) -> Stage:
        return next(each for each in self.recipe.stages if each.name == self.stage)

    @property
    def run(self) -> Path:
        """The folder that the cascade draws this stage from."""
        return self.path.parent / self._chosen.model

    @property
    def why_not(self) -> str:
        """Empty, or why the stage cannot be trained anew."""
        if self.run.is_file():
            return f"{self.stage} is drawn from a file: {self.run}. Name a folder as its model to train it."
        if not Run(self.run).exists:
            return ""
        return f"{self.stage} has its run already: {self.run}. Continue that, or move its folder away."

    @property
    def field(self) -> FormField:
        names = tuple(each.name for each in self.recipe.stages)
        help = "Each stage is trained on its own, in any order."
        return FormField(STAGE, "Stage", help, "choice", default=self.stage, choices=names)

    def stage_recipe(self, bundled: Iterable[tuple[str, str]]) -> Recipe:
        """What trains the stage: a file beside the cascade's, or a bundled recipe (name, text). Raises RecipeError."""
        wanted = self._chosen.recipe
        own = self.path.parent / wanted
        if wanted and own.is_file():
            return Recipe.read(own)
        known = dict(bundled)
        if wanted not in known:
            what = f"there is no recipe {wanted!r}" if wanted else "names no recipe"
            raise RecipeError(what, field=f"stages.{self.stage}.recipe", file=self.path, fix="Say what trains it")
        return Recipe.from_toml(known[wanted], file=wanted)
