"""The contracts find what is wrong with a plugin, and say what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field
from torch import nn

from imagen_workbench.core import Condition, ConditionField, ConditioningScheme, DataError, RequestError, Stream
from imagen_workbench.core.data.source import Example, Facts
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.testing import ConditioningContract, StreamContract
from imagen_workbench.core.testing.fuzzed import options_at_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagen_workbench.core import Tensors


class Encoder(nn.Module):
    """Everything at once: vector, tokens and image of one number."""

    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.flaw = flaw
        self.null = nn.Parameter(torch.empty(4))

    def reset(self, generator: torch.Generator) -> None:
        if self.flaw != "weights":
            own = torch.Generator() if self.flaw == "seed" else generator
            with torch.no_grad():
                self.null.copy_(torch.randn(4) if self.flaw == "global" else torch.randn(4, generator=own))

    def forward(self, prepared: Any) -> Condition:
        shade = prepared["shade"].float()[:, None]
        if self.flaw == "batch":
            shade = shade - shade.mean()
        if self.flaw == "same":
            shade = torch.zeros_like(shade)
        width = 5 if self.flaw == "width" else 4
        parts = self._parts(shade.expand(-1, width))
        null = self._parts(self.null.expand(len(shade), -1) + (shade if self.flaw == "null" else 0))
        return Condition(**parts, null=None if self.flaw == "no null" else Condition(**null))

    def _parts(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        mask = torch.ones(len(row), 2, dtype=torch.bool)
        if self.flaw == "mask":
            mask[:] = False
        if self.flaw == "infinite":
            row = row / 0
        return {"vector": row, "tokens": row[:, None].repeat(1, 2, 1), "mask": mask, "image": row[:, :1, None, None]}


class Everything(ConditioningScheme):
    title, summary, key = "Everything", "For tests.", "everything"
    vector_width = token_width = 4  # type: ignore[assignment]
    image_channels = 1  # type: ignore[assignment]
    flaw: ClassVar[str] = ""
    calls: ClassVar[list[int]] = []

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return (ConditionField("everything", "Shade", "number", low=1.0 if self.flaw == "form" else 0.0),)

    def prepare(self, example: Example) -> np.ndarray:
        Everything.calls.append(1)
        shade = int(np.asarray(example.image).max())
        if self.flaw == "impure":
            shade += len(Everything.calls)
        if self.flaw == "text":
            return np.array(["shade"])
        return self._record(shade)

    def _record(self, shade: int) -> np.ndarray:
        kind = "f8" if self.flaw == "types" and shade > 50 else "f4"
        record = np.zeros((), [("shade", kind), ("unsaid", "?", (2,))])
        record["shade"] = shade
        return record

    def parse(self, text: str) -> np.ndarray:
        if not text.isdigit():
            if self.flaw == "parse":
                raise KeyError(text)
            raise RequestError(f"{text!r} is no shade", fix="" if self.flaw == "fix" else "Write a number")
        return self._record(0)["shade"] if self.flaw == "shape" else self._record(int(text[:3]))

    def in_turn(self, count: int) -> list[str]:
        return ["3"] * (count - (self.flaw == "turn"))

    def nothing(self) -> np.ndarray:
        return np.zeros(3) if self.flaw == "nothing" else self._record(0)

    def for_training(self, prepared: Tensors, x0: torch.Tensor, generator: torch.Generator) -> Tensors:
        assert isinstance(prepared, dict)
        shade = prepared["shade"]
        assert isinstance(shade, torch.Tensor)
        if self.flaw == "draws":
            return {**prepared, "shade": shade + torch.rand(len(x0))}
        if self.flaw == "in place":
            shade += 1
        return {**prepared, "shade": shade + torch.rand(len(x0), generator=generator)}

    def encoder(self) -> nn.Module:
        return Encoder(self.flaw)


class Contract(ConditioningContract):
    flaw: ClassVar[str] = ""

    def make_scheme(self) -> ConditioningScheme:
        kind = type("Flawed", (Everything,), {"flaw": self.flaw})
        return kind(kind.Options(), Facts())

    def examples(self) -> list[Example]:
        return [Example(np.full((4, 4), shade, np.uint8)) for shade in (3, 7, 100)]

    def texts(self) -> tuple[str, ...]:
        return ("0", "9")

    def nonsense(self) -> str:
        return "very"


class TestEverything(Contract):
    """Without a flaw it holds."""


def all_of(contract: Any, *arguments: Any) -> str:
    """Runs every test of a contract; what they find."""
    found = []
    for name in [each for each in dir(contract) if each.startswith("test_")]:
        try:
            getattr(contract, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - looked at below
            found.append(f"{name}: {type(error).__name__}: {error}")
    return "\n".join(found)


@pytest.mark.parametrize(
    ("flaw", "taught"),
    [
        ("null", "the null's vector depends on the condition"),
        ("no null", "gives no null; or say `droppable = False`"),
        ("mask", "no token at all"),
        ("width", "a width of 4"),
        ("infinite", "is not finite"),
        ("batch", "depends on the others of its batch"),
        ("same", "the same for all examples"),
        ("weights", "give its module a reset(generator)"),
        ("global", "torch's global generator"),
        ("impure", "other numbers for the same example"),
        ("text", "not numbers"),
        ("types", "different shapes or types"),
        ("shape", "prepare gives"),
        ("nothing", "nothing() gives float64"),
        ("draws", "draws from torch's global generator"),
        ("in place", "make new tensors"),
        ("parse", "KeyError"),
        ("fix", "say what can be written"),
        ("turn", "in_turn(5) gives five texts"),
        ("form", "low is not below high"),
    ],
)
def test_a_flaw_of_a_scheme_is_found(flaw: str, taught: str) -> None:
    contract = type("Flawed", (Contract,), {"flaw": flaw})()
    assert taught in all_of(contract)


class Tape(Stream):
    title, summary = "Tape", "For tests."
    flaw: ClassVar[str] = ""
    begun: ClassVar[list[int]] = []

    def examples(self, position: Any) -> Iterator[tuple[Any, Any]]:
        Tape.begun.append(1)
        first = 0 if self.flaw == "rewinds" else int(position or 0)
        for k in range(first, 20):
            image = np.full((4, 4), k + (len(Tape.begun) if self.flaw == "chance" else 0), np.uint8)
            place = {"positions": 1, "kind": (k,)}.get(self.flaw, k + 1)
            example = Example(image) if k != 3 else DataError("torn")
            yield place, "no example" if self.flaw == "example" else example


class Taped(StreamContract):
    kind: ClassVar[type[Stream]] = Tape

    def make_stream(self, folder: Path) -> Stream:
        return self.kind(Recipe.of({"data": {"channels": 1}}).data, Tape.Options())


class TestTape(Taped):
    """Without a flaw it holds."""


@pytest.mark.parametrize(
    ("flaw", "taught"),
    [
        ("rewinds", "does not go on with what came after it"),
        ("positions", "two examples have the same position"),
        ("kind", "neither text nor a number"),
        ("example", "yield (position, Example)"),
    ],
)
def test_a_flaw_of_a_stream_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str, taught: str) -> None:
    monkeypatch.setattr(Tape, "flaw", flaw)
    monkeypatch.setattr(Taped, "test_same_bytes_in_another_process", None)
    assert taught in all_of(Taped(), tmp_path)


class Options(BaseModel):
    count: int = Field(5, ge=2, le=10, multiple_of=2)
    share: float = Field(0.5, gt=0, lt=1)
    many: int = Field(5, ge=1, le=1_000_000)
    kind: Literal["a", "b"] = "a"
    on: bool = False
    name: str = Field("x", min_length=1, max_length=3)
    maybe: int | None = None


def test_options_are_tried_at_their_limits() -> None:
    found = list(options_at_limits(Options))
    assert {each.count for each in found} == {2, 4, 5, 10}
    assert {each.kind for each in found} == {"a", "b"}
    assert {each.on for each in found} == {False, True}
    assert {each.name for each in found} == {"x", "a", "-1"}
    assert min(each.share for each in found) == 0.001
    assert max(each.many for each in found) == 5
    assert min(each.many for each in found) == 1
