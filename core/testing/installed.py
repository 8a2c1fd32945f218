"""The contracts, held against a plugin that is installed or allowed: `imagen-workbench plugins test NAME`.

Runs in a process of its own, for what it tries may crash. Needs no pytest.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.loading import Loaders
from ..data.rows import Row
from ..data.source import Attribute, Example, Facts, Stream
from ..errors import WorkbenchError
from ..extensions import make_scheme, make_source, source_plugin
from ..generators import finish
from ..recipe import Recipe
from .conditioning import ConditioningContract
from .datasets import DatasetContract
from .elsewhere import answers
from .streams import StreamContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

    from ..conditioning import ConditioningScheme
    from ..data.rows import Aside
    from ..data.source import Source

MOST = 200
"""Examples that are read in loader processes."""
WORDS = ("red", "green", "blue")


class InstalledDataset(DatasetContract):
    """The dataset that a recipe names."""

    recipe: Recipe

    def make_source(self, folder: Path) -> Source:  # noqa: ARG002
        return make_source(self.recipe)

    def with_options(self, folder: Path, options: BaseModel) -> Source:  # noqa: ARG002
        return make_source(self.recipe.with_values({"data.options": options.model_dump(mode="json")}))

    def test_loader_processes_give_the_same(self) -> None:
        """One, and three; as when it is read to be trained on."""
        one, three = _rows(self.recipe, 1), _rows(self.recipe, 3)
        assert len(one) == len(three)
        for left, right in zip(one, three, strict=True):
            assert left == right, f"{left.name} differs with the number of processes"
            if isinstance(left, Row) and isinstance(right, Row):
                assert np.array_equal(left.pixels, right.pixels), f"{left.name} differs with the number of processes"


class InstalledStream(StreamContract):
    """The stream that a recipe names."""

    recipe: Recipe

    def make_stream(self, folder: Path) -> Stream:  # noqa: ARG002
        return make_source(self.recipe)

    def test_a_loader_process_reads_it(self) -> None:
        assert any(isinstance(row, Row) for row in _rows(self.recipe, 1)), "not one example can be used"


def _rows(recipe: Recipe, cores: int) -> list[Row | Aside]:
    recipe = recipe.with_values({"data.most": MOST})
    with Loaders(recipe, cores, f"the plugin {recipe.data.source!r}", "Mend it") as loaders:
        opened = finish(loaders.opened())
        return [row for row in loaders.rows(opened, prepare=False) if row is not None]


class InstalledScheme(ConditioningContract):
    """The conditioning scheme that a recipe names, for examples of every kind."""

    recipe: Recipe

    def make_scheme(self) -> ConditioningScheme:
        return make_scheme(self.recipe, facts())

    def with_options(self, options: BaseModel) -> ConditioningScheme:
        values = {"conditioning.options": options.model_dump(mode="json")}
        return make_scheme(self.recipe.with_values(values), facts())

    def examples(self) -> list[Example]:
        return [_example(k) for k in range(6)]

    def texts(self) -> tuple[str, ...]:
        return tuple(self.make_scheme().in_turn(4))


def facts() -> Facts:
    """Of a dataset that has everything."""
    attributes = (Attribute("colour", WORDS), Attribute("size", (), 0.0, 1.0))
    fields = ("image", "label", "caption", "attributes", "low_resolution", "mask")
    captions = tuple(f"a {word} picture" for word in WORDS)
    return Facts(WORDS, attributes, fields, captions, (16, 16), 3, tuple(_pictures()))


def _pictures() -> Iterator[str]:
    import base64

    from ..data.decode import png_bytes

    for k in range(len(WORDS)):
        yield base64.b64encode(png_bytes(_image(k, 16).transpose(2, 0, 1))).decode()


def _example(k: int) -> Example:
    word = WORDS[k % len(WORDS)]
    mask = np.zeros((16, 16), np.uint8)
    mask[: 1 + k] = 255
    told = {"colour": word, "size": k / 6}
    return Example(_image(k, 16), k % len(WORDS), f"picture {k}", f"a {word} picture {k}", told, _image(k, 8), mask)


def _image(k: int, size: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 40 + 40 * k, (size, size, 3), np.uint8)


# --- running them ---------------------------------------------------------------------------------


def main() -> None:
    """{"kind", "recipe"} comes in; a line of JSON goes out for each test: {"test", "error"}."""
    asked, told = json.load(sys.stdin), answers()
    for name, fault in tests_of(asked["kind"], Recipe.of(asked["recipe"])):
        told.write(json.dumps({"test": name, "error": fault()}) + "\n")
        told.flush()


def tests_of(kind: str, recipe: Recipe) -> Iterator[tuple[str, Callable[[], str]]]:
    """The tests of the plugin that the recipe names: each says what it finds wrong, in words; "" where it holds."""
    contract: Any = InstalledScheme()
    if kind == "dataset":
        contract = InstalledStream() if issubclass(source_plugin(recipe).loaded, Stream) else InstalledDataset()
    contract.recipe = recipe
    for name in [each for each in dir(contract) if each.startswith("test_")]:
        yield name, partial(_fault, getattr(contract, name))


def _fault(test: Any) -> str:
    """What a test finds wrong; empty where it passes."""
    try:
        if "tmp_path" in inspect.signature(test).parameters:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                test(tmp_path=Path(place))
        else:
            test()
    except AssertionError as error:
        return str(error) or f"it does not hold: {_line(error)}"
    except WorkbenchError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - told as the test's result
        return f"{type(error).__name__}: {error} ({_line(error)})"
    return ""


def _line(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}: {last.line}"
