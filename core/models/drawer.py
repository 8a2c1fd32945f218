"""What draws: a model, or a cascade of them. And what has been drawn.

from imagen_workbench.core import open_model
model = open_model("digits")
drawn = model.draw(conditions=["7"], count=8, seed=7, guidance=1.5)
drawn.images[0].show()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..commands import Draw
from ..drawing import with_indices
from ..errors import ModelError, RequestError
from ..generators import finish
from ..runs.files import write_atomically
from ..runs.picture import film_bytes, grid, save_png, to_image

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    import torch
    from PIL import Image

    from ..conditioning import ConditioningScheme
    from ..events import Drawn, ModelOpened, Preview
    from ..recipe import Recipe, Sampling

TOGETHER = 128
"""Images of a large draw that are held in memory at once."""


class Drawer(ABC):
    """Draws images of a condition. recipe: of what comes out; scheme: of what can be asked for.

    picture: the recipe of the picture that it was opened through, if it was.
    """

    reference: str
    name: str
    recipe: Recipe
    device: torch.device
    picture: dict[str, Any]

    @property
    @abstractmethod
    def asked(self) -> ConditioningScheme:
        """What understands the texts of a draw."""

    @abstractmethod
    def facts(self, ticket: int = 0) -> ModelOpened:
        """What a face shows of it."""

    @abstractmethod
    def identity(self, ema: float | None = None) -> dict[str, Any]:
        """What a picture says of the weights that drew it: reference, name, hash, step.

        Raises ModelError where it has no such EMA length.
        """

    @abstractmethod
    def drawing(self, request: Draw, indices: tuple[int, ...] | None = None) -> Generator[Preview | None, None, Drawn]:
        """Draws what is asked; yields after every network call. Raises as `core.drawing.draw`."""

    def levels_fixed(self, settings: Sampling, texts: Sequence[str]) -> Sampling:  # noqa: ARG002
        """The settings with levels that must be measured written into them, for a draw in several parts."""
        return settings

    def draw(self, conditions: Sequence[str] = (), count: int = 8, **sampling: Any) -> Drawing:
        """Draws `count` images; conditions are cycled, with none the classes come in turn.

        sampling: any of the recipe's sampling settings (seed, guidance, sampler, steps, …).
        Raises RecipeError or RequestError where a setting or a condition cannot be used.
        """
        settings = self.recipe.with_values({f"sampling.{key}": value for key, value in sampling.items()}).sampling
        return self._finish(Draw(0, self.reference, tuple(map(str, conditions)), count, settings), None)

    def draw_all(
        self, conditions: Sequence[str] = (), count: int = 8, first: int = 0, **sampling: Any
    ) -> Iterator[Drawing]:
        """As `draw`, for any number of images: some at a time, so that memory stays bounded.

        first: the image to begin with; image k is the same whatever is drawn beside it. Raises as `draw`.
        """
        settings = self.recipe.with_values({f"sampling.{key}": value for key, value in sampling.items()}).sampling
        asked = tuple(map(str, conditions)) or tuple(self.asked.in_turn(max(1, len(self.asked.choices))))
        settings = self.levels_fixed(settings, asked)
        for start in range(first, count, TOGETHER):
            indices = tuple(range(start, min(start + TOGETHER, count)))
            texts = [asked[index % len(asked)] for index in indices]
            request = Draw(0, self.reference, tuple(texts), len(indices), settings, film=False)
            yield self._finish(request, indices)

    def draw_again(self) -> Drawing:
        """The picture's own draw, where the model was opened through a picture of ours."""
        if not self.picture:
            raise ModelError("was not opened through a picture", file=self.reference, fix="Open a PNG that we drew")
        return self._finish(*with_indices(Draw(0, self.reference), self.picture))

    def _finish(self, request: Draw, indices: tuple[int, ...] | None) -> Drawing:
        return Drawing(finish(self.drawing(request, indices)))


@dataclass(frozen=True)
class Drawing:
    """A finished draw."""

    drawn: Drawn

    @property
    def arrays(self) -> np.ndarray:
        """[n c h w] float32 in [-1, 1]."""
        assert self.drawn.arrays is not None
        return self.drawn.arrays

    @property
    def images(self) -> list[Image.Image]:
        """PIL images."""
        assert self.drawn.images is not None
        return [to_image(pixels) for pixels in self.drawn.images]

    @property
    def labels(self) -> tuple[int, ...]:
        """[n] class numbers, -1 where there is none."""
        return self.drawn.labels

    @property
    def conditions(self) -> tuple[str, ...]:
        return self.drawn.conditions

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that makes the draw again."""
        return self.drawn.recipe

    def save(self, path: Path | str, columns: int = 0) -> None:
        """Writes all images as one PNG that carries the draw's recipe."""
        assert self.drawn.images is not None
        save_png(Path(path), grid(self.drawn.images, columns), self.recipe)

    def save_film(self, path: Path | str, columns: int = 0) -> None:
        """Writes the way from noise to the images as an animated GIF: x_t on the left, x̂_0 on the right."""
        drawn = self.drawn
        if drawn.film_x is None or drawn.film_x0 is None:
            raise RequestError("this draw kept no film", fix="Draw fewer images at once")
        write_atomically(Path(path), film_bytes(drawn.film_x, drawn.film_x0, columns))
