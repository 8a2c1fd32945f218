"""An engine without torch, for tests of faces: it answers at once, in pictures that tell what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagen_workbench.core.commands import LIVE, Command, Draw, OpenModel, ReadCatalogue, ShowData, Train
from imagen_workbench.core.errors import DataError, ModelError, RequestError
from imagen_workbench.core.events import (
    Catalogue,
    ConditionField,
    DataShown,
    Drawn,
    Measured,
    ModelOpened,
    PluginFacts,
    Preview,
    Progress,
    SampleRow,
    Saved,
)
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.worker.thread import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from imagen_workbench.core.events import Event

SIZE = (8, 8)
CLASSES = tuple("0123456789")
CLASS = ConditionField("class", "Class label", "choice", choices=CLASSES)
SHAPES = ((8, 8), (6, 12))
"""What the model "shapes" was trained on."""
PARTS = [{"source": "digits"}, {"source": "image-folder", "path": "leaves", "weight": 2.5}]
TEXT_OPTIONS = {"properties": {"words": {"type": "integer", "default": 16, "title": "Words"}}}
FORMS = {
    "captions": (ConditionField("text", "Text", "text", "What the images should show."),),
    "scenes": (CLASS, ConditionField("size", "Size", "number", "How large it is.")),
    "larger": (
        ConditionField("low", "Picture", "image", "What is to be drawn larger.", default="example 1"),
        ConditionField("noise", "Noise", "number", "More lets it change more.", high=0.5, default="0"),
    ),
}
"""What some models ask for; all others ask for a class."""


class ScriptedEngine:
    """`asked` holds every command in order. Draws take three turns; training takes `steps` of them."""

    def __init__(self, emit: Callable[[Event], None], steps: int = 6) -> None:
        self.emit = emit
        self.steps = steps
        self.asked: list[Command] = []

    def answer(self, command: ReadCatalogue | OpenModel) -> None:
        self.asked.append(command)
        if isinstance(command, ReadCatalogue):
            folder_options = {"properties": {"hidden": {"type": "boolean", "default": False, "title": "Hidden files"}}}
            self.emit(
                Catalogue(
                    command.ticket,
                    (
                        PluginFacts(
                            "digits", "Source", "Handwritten digits", "5,000 digits",
                            defaults={"size": [28, 28], "channels": 1},
                        ),
                        PluginFacts(
                            "image-folder", "Source", "Folder of images", "Your own", needs_path=True,
                            defaults={"size": [32, 32], "channels": 3, "validation": 0.1}, options=folder_options,
                        ),
                    ),
                    (
                        PluginFacts("label", "ConditioningScheme"),
                        PluginFacts("none", "ConditioningScheme"),
                        PluginFacts("text", "ConditioningScheme", "Text", options=TEXT_OPTIONS),
                    ),
                    (
                        ("digits", Recipe(name="digits").to_toml()),
                        ("small", _small_recipe().to_toml()),
                        ("both", Recipe(name="both").with_values({"conditioning.scheme": "label + text"}).to_toml()),
                        ("mixed", Recipe(name="mixed").with_values({"data.parts": PARTS}).to_toml()),
                    ),
                    ("digits", "portrait-of-a-very-long-name-2026-11-24-second-attempt", "shapes", *FORMS),
                )
            )  # fmt: skip
        elif command.model == "missing":
            raise ModelError("no such model", file="missing", fix="Choose another")
        else:
            form = FORMS.get(command.model, (CLASS,))
            choices = CLASSES if form == (CLASS,) else ()
            self.emit(
                ModelOpened(
                    command.ticket, command.model, "digits" if command.model != LIVE else "run at 3", 1_100_000,
                    "2026-11-24", 12_000, "abc", SIZE, 1, choices, True, (0.0, 0.1), 0.1, form=form,
                    shapes=SHAPES if command.model == "shapes" else (),
                )
            )  # fmt: skip

    def draw(self, command: Draw) -> Generator[None, None, None]:
        self.asked.append(command)
        if any("missing" in text for text in command.conditions):
            raise RequestError("there is no such picture", field="low", fix="Name another")
        tone = command.sampling.seed % 200 + 20
        shape = (command.count, *(command.sampling.size or SIZE), 1)
        for step in range(2):
            images = np.full(shape, tone // 2 + step, np.uint8)
            self.emit(Preview(command.ticket, images, 80.0 / (step + 1), step, 2, step + 1))
            yield
        texts = command.conditions or CLASSES
        texts = tuple(texts[k % len(texts)] for k in range(command.count))
        images = np.full(shape, tone, np.uint8)
        images[:, 0, 0, 0] = range(command.count)
        film = np.stack([np.full(shape, level, np.uint8) for level in (10, 20)] + [images])
        self.emit(
            Drawn(
                command.ticket, images, images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1, film, film,
                (80.0, 1.66, 0.0), tuple(int(text) if text.isdecimal() else -1 for text in texts), texts, 2, 0.42,
                "cpu · 2 threads · float32", 1 << 30,
                {"version": 1, "indices": list(range(command.count)), "conditions": list(texts)},
            )
        )  # fmt: skip

    def measure(self, command: Draw) -> Generator[None, None, None]:
        yield
        self.emit(Measured(command.ticket, tuple(3.0 + k / 10 for k in range(command.count)), (0.02,) * command.count))

    def look_at_data(self, command: ShowData) -> Generator[None, None, None]:
        self.asked.append(command)
        yield
        path = command.recipe.data.path
        if path.endswith("empty") and not Path(path).is_dir():
            raise DataError("no images are in this folder", file=path, fix="Choose another folder")
        images = np.full((12, *SIZE, command.recipe.data.channels), 90, np.uint8)
        aside = (("broken.png", "the file is empty"),) if command.recipe.data.path else ()
        self.emit(DataShown(command.ticket, images, CLASSES + CLASSES[:2], 4000, 1000, CLASSES, aside))

    def train(self, command: Train) -> ScriptedTraining:
        self.asked.append(command)
        return ScriptedTraining(self, command)

    def newest(self, kind: type[Any]) -> Any:
        """The last command of a kind that was asked. Fails where there is none."""
        found = [command for command in self.asked if isinstance(command, kind)]
        assert found, f"no {kind.__name__} was asked"
        return found[-1]

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(command, kind) for command in self.asked)


class ScriptedTraining:
    """Writes a journal as the real one does, so that curves can be read from it."""

    def __init__(self, engine: ScriptedEngine, command: Train) -> None:
        self.run = command.run
        self._engine, self._command = engine, command
        self.step = 0

    def turns(self) -> Generator[Moment, None, None]:
        folder, recipe = Run(self.run), self._command.recipe or Recipe()
        steps = self._engine.steps
        yield Moment.PREPARING
        if recipe.data.path.endswith("gone"):
            raise DataError("the images are gone", file=recipe.data.path, fix="Choose another folder")
        if not folder.exists:
            folder.create(recipe)
        with folder.open_journal() as journal:
            self._row(0)
            while self.step < steps:
                yield Moment.AT_WORK
                self.step += 1
                journal.write("step", self.step, loss=1 / self.step)
                if self.step % 2 == 0:
                    journal.write("held_out", self.step, loss=1.1 / self.step, bands=[["< .05", 0.6], ["> 3", 0.1]])
                    self._row(self.step)
                self._engine.emit(
                    Progress(
                        self._command.ticket, self.run, self.step, steps, 1 / self.step, 915.0, 185.0, 0.002, 0.31,
                        journal.lines, "cpu · 2 threads · float32", 1 << 30,
                    )
                )  # fmt: skip
                yield Moment.WHOLE
            self.save()

    def save(self) -> None:
        self._engine.emit(Saved(self._command.ticket, self.run, self.step, f"{self.run}/checkpoints/{self.step:08d}"))

    def abandon(self) -> None:
        pass

    def _row(self, step: int) -> None:
        images = np.full((8, *SIZE, 1), (20 + step) % 256, np.uint8)
        self._engine.emit(SampleRow(self._command.ticket, self.run, step, images, CLASSES[:8]))


def _small_recipe() -> Recipe:
    return Recipe(name="small").with_values({"training.steps": 40, "training.batch": 16})
