"""The bundled plugins, each under its kind's contract; and how broken plugins are fenced."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core import extensions
from imagen_workbench.core.commands import ReadCatalogue
from imagen_workbench.core.conditioning import NoOptions
from imagen_workbench.core.data.source import Example, Facts, Source
from imagen_workbench.core.errors import PluginError, RecipeError
from imagen_workbench.core.events import Catalogue
from imagen_workbench.core.extensions import catalogue, datasets, make_scheme, make_source, schemes
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.testing import ConditioningContract, DatasetContract
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of
from imagen_workbench.plugins.conditioning.label import Label
from imagen_workbench.plugins.conditioning.none import Unconditional
from imagen_workbench.plugins.datasets.digits import Digits

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = Facts(("cat", "dog", "bird"))


class TestDigits(DatasetContract):
    """Its text file takes seconds to read: once for all tests, and anew in the other process."""

    arrays: ClassVar[tuple[np.ndarray, np.ndarray] | None] = None

    def make_source(self, folder: Path) -> Source:
        source = make_source(Recipe())
        assert isinstance(source, Digits)
        TestDigits.arrays = TestDigits.arrays or source._arrays
        source.__dict__["_arrays"] = TestDigits.arrays
        return source


class TestImageFolder(DatasetContract):
    def make_source(self, folder: Path) -> Source:
        photos = folder / "photos"
        if not photos.exists():
            random = np.random.default_rng(0)
            for name in ("cats/a.png", "cats/b.jpg", "dogs/deep/c.webp", "dogs/d.gif", "e.tiff"):
                (photos / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (9, 13, 3), np.uint8)).save(photos / name)
            (photos / "broken.png").write_text("no picture")
        return make_source(Recipe.of({"data": {"source": "image-folder", "path": str(photos)}}))


class TestLabel(ConditioningContract):
    def make_scheme(self) -> Label:
        return Label(Label.Options(), CLASSES)

    def examples(self) -> list[Example]:
        return [Example(np.zeros((2, 2)), label) for label in (0, 2, 1, 1)]

    def lacking(self) -> Example:
        return Example(np.zeros((2, 2)))

    def nonsense(self) -> str:
        return "unicorn"


class TestUnconditional(ConditioningContract):
    def make_scheme(self) -> Unconditional:
        return Unconditional(NoOptions(), Facts())

    def examples(self) -> list[Example]:
        return [Example(np.zeros((2, 2))), Example(np.ones((2, 2)), 3)]

    def nonsense(self) -> str:
        return "anything"


def test_every_bundled_plugin_is_under_contract() -> None:
    assert {name for name, plugin in datasets().items() if plugin.package == "imagen-workbench"} == {
        "captioned-shapes",
        "cifar10",
        "digits",
        "fashion-mnist",
        "hugging-face",
        "hugging-face-streaming",
        "image-folder",
        "mnist",
        "torchvision",
        "webdataset",
    }, "the others are under contract in test_plugins_well_known, _hugging_face, _torchvision and _webdataset"
    assert {name for name, plugin in schemes().items() if plugin.package == "imagen-workbench"} == {
        "attributes",
        "frozen-text",
        "label",
        "low-resolution",
        "mask",
        "none",
        "text",
    }, "the others are under contract in test_plugins_conditioning and test_plugins_frozen_text"


@pytest.mark.parametrize("label", [-1, 3, 99])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    from imagen_workbench.core.errors import DataError

    with pytest.raises(DataError):
        Label(Label.Options(), CLASSES).prepare(Example(np.zeros((2, 2)), label))


# --- broken plugins -------------------------------------------------------------------------------


class NoSource:
    pass


class Explodes(Source):
    title = "Explodes"
    summary = "When it is made."

    def __init__(self, *_: object) -> None:
        raise KeyError("from the plugin's own depths")

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Example:
        raise IndexError


@pytest.fixture
def broken_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three more datasets: one that cannot be imported, one that is none, one that explodes."""
    group = extensions.DATASETS
    found = [
        *metadata.entry_points(group=group),
        metadata.EntryPoint("missing", "no_such_module_anywhere:Thing", group),
        metadata.EntryPoint("wrong", "collections:OrderedDict", group),
        metadata.EntryPoint("digits", "collections:Counter", group),
    ]
    monkeypatch.setattr(
        extensions.metadata, "entry_points", lambda group: found if group == extensions.DATASETS else []
    )


@pytest.mark.usefixtures("broken_plugins")
def test_a_broken_plugin_is_named_and_the_rest_work_on() -> None:
    listed = {facts.name: facts for facts in catalogue().datasets}
    assert {"digits", "image-folder", "missing", "wrong"} <= set(listed)
    assert "no_such_module_anywhere" in listed["missing"].error
    assert "no Source" in listed["wrong"].error
    assert not listed["digits"].error, "ours goes before another of its name"
    assert listed["digits"].title
    for name in ("missing", "wrong"):
        with pytest.raises(PluginError) as caught:
            make_source(Recipe.of({"data": {"source": name}}))
        assert name in caught.value.what
        assert caught.value.fix


def test_what_a_plugin_raises_is_named_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = extensions.Plugin("explodes", metadata.EntryPoint("explodes", "x:y", extensions.DATASETS), Source)
    plugin.__dict__["loaded"] = Explodes
    monkeypatch.setattr(extensions, "datasets", lambda: {"explodes": plugin})
    with pytest.raises(PluginError) as caught:
        make_source(Recipe.of({"data": {"source": "explodes"}}))
    assert "explodes" in caught.value.what
    assert "KeyError" in caught.value.what
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_catalogue_tells_all_that_can_be_chosen() -> None:
    (told,) = [event for event in events_of(Worker(), ReadCatalogue(5)) if isinstance(event, Catalogue)]
    assert told.ticket == 5
    assert {facts.name for facts in told.datasets} >= {"digits", "image-folder"}
    assert {facts.name for facts in told.schemes} >= {"label", "none"}
    folder = next(facts for facts in told.datasets if facts.name == "image-folder")
    assert folder.needs_path
    assert "hidden" in folder.options["properties"]
    assert all(Recipe.from_toml(text).name == name for name, text in told.recipes)


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        ({"data": {"source": "digit"}}, "data.source"),
        ({"data": {"options": {"x": 1}}}, "data.options.x"),
        ({"conditioning": {"scheme": "lable"}}, "conditioning.scheme"),
        ({"conditioning": {"options": {"width": 0}}}, "conditioning.options.width"),
        ({"conditioning": {"options": {"widht": 3}}}, "conditioning.options.widht"),
    ],
)
def test_wrong_names_and_options_are_told_at_their_field(tables: dict[str, object], field: str) -> None:
    recipe = Recipe.of(tables)
    with pytest.raises(RecipeError) as caught:
        make_scheme(recipe, Facts(make_source(recipe).classes))
    assert caught.value.field == field
    assert caught.value.fix
