"""Files that are damaged, disguised or hostile: each with the message it must give, and nothing but DataError."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from image_files import folder_recipe, plain, prepared, settings, some_images
from PIL import Image

from imagen_workbench.core.data.decode import to_pixels
from imagen_workbench.core.data.store import Store, StoreWriter, read_index
from imagen_workbench.core.errors import DataError
from imagen_workbench.core.extensions import make_source
from imagen_workbench.plugins.datasets import file_list

if TYPE_CHECKING:
    from collections.abc import Callable

# --- the table of cases ---------------------------------------------------------------------------


def encoded(suffix: str, image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (image or Image.fromarray(noise)).save(buffer, suffix)
    return buffer.getvalue()


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npz(**arrays: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


class Trap:
    """Executed where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._place.touch, ()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


BOMB = npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }")

CASES: dict[str, tuple[bytes, str]] = {
    "cut.png": (half(encoded("PNG")), "truncated|cut"),
    "cut.jpg": (half(encoded("JPEG")), "truncated"),
    "cut.webp": (half(encoded("WEBP")), "cannot be"),
    "cut.gif": (half(encoded("GIF")), "cannot be"),
    "cut.tif": (half(encoded("TIFF")), "cannot be"),
    "header.png": (b"\x89PNG\r\n\x1a\n", "cannot be"),
    "empty.png": (b"", "the file is empty"),
    "empty.npy": (b"", "the file is empty"),
    "text.png": (b"I am no picture", "not an image that Pillow knows"),
    "array.png": (npy(np.zeros((8, 8), np.uint8)), "not an image that Pillow knows"),
    "picture.npy": (encoded("PNG"), "not a NumPy array"),
    "picture.npz": (encoded("PNG"), "not a NumPy archive"),
    "cut.npy": (half(npy(np.zeros((80, 80), np.uint8))), "is cut off"),
    "cut.npz": (half(npz(x=npy(np.zeros((80, 80), np.uint8)))), "not a NumPy archive"),
    "two.npz": (npz(a=npy(np.zeros((8, 8), np.uint8)), b=npy(np.zeros((8, 8), np.uint8))), "holds 2 arrays"),
    "none.npz": (npz(), "holds 0 arrays"),
    "objects.npy": (npy(np.array([None]), allow_pickle=True), "pickled objects, which are never opened"),
    "objects.npz": (npz(x=npy(np.array([None]), allow_pickle=True)), "pickled objects, which are never opened"),
    "bare.npy": (pickle.dumps([1, 2]), "not a NumPy array"),
    "bomb.npy": (BOMB, "1,000,000,000,000 values are more than"),
    "bomb.npz": (npz(x=BOMB), "1,000,000,000,000 values are more than"),
    "negative.npy": (npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-8, 8), }"), "not a NumPy array"),
    "structured.npy": (npy(np.zeros((8, 8), [("a", "u1"), ("b", "u1")])), "values of type"),
    "dates.npy": (npy(np.zeros((8, 8), "datetime64[s]")), "values of type datetime64"),
    "line.npy": (npy(np.zeros(8, np.uint8)), r"shape \(8,\) is no image"),
    "nothing.npy": (npy(np.zeros((0, 8, 3), np.uint8)), "is no image"),
    "bright.npy": (npy(np.full((8, 8), 1.5)), r"outside \[0, 1\]"),
    "nan.npy": (npy(np.full((8, 8), np.nan)), r"outside \[0, 1\]"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_case_gives_its_message(tmp_path: Path, name: str) -> None:
    content, message = CASES[name]
    (tmp_path / name).write_bytes(content)
    for depth in (8, 16):
        with pytest.raises(DataError, match=message):
            to_pixels(tmp_path / name, settings(depth=depth))


def test_a_folder_of_all_cases_trains_on_what_is_left(tmp_path: Path) -> None:
    folder = some_images(tmp_path / "photos")
    for name, (content, _) in CASES.items():
        (folder / name).write_bytes(content)
    data = prepared(folder_recipe(folder))
    assert len(data.pixels) == 6
    assert {name for name, _ in data.set_aside} == set(CASES)


@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_objects_are_never_unpickled(tmp_path: Path, wrapped: bool) -> None:
    array = np.empty(1, object)
    array[0] = Trap(tmp_path / "executed")
    content = npy(array, allow_pickle=True)
    path = tmp_path / ("x.npz" if wrapped else "x.npy")
    path.write_bytes(npz(x=content) if wrapped else content)
    with pytest.raises(DataError, match="never opened"):
        to_pixels(path, settings())
    assert not (tmp_path / "executed").exists()


def test_an_archive_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    """No more is read than the header promises, however much there may be."""
    content = npy(np.full((8, 8), 9, np.uint8)) + bytes(1 << 26)
    (tmp_path / "x.npz").write_bytes(npz(x=content))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 17
    pixels = to_pixels(tmp_path / "x.npz", settings())
    assert np.unique(pixels).tolist() == [9]


@pytest.mark.parametrize("suffix", ["png", "tiff", "npy"])
def test_enormous_images_are_refused_before_they_are_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    if suffix == "npy":
        np.save(tmp_path / "big.npy", np.zeros((100, 100), np.uint8))
    else:
        plain(9, (100, 100)).save(tmp_path / f"big.{suffix}")
    with pytest.raises(DataError, match=r"exceeds limit|more than the 4,000"):
        to_pixels(tmp_path / f"big.{suffix}", settings())


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "npz"])
def test_a_wrong_extension_of_a_picture_does_not_matter(tmp_path: Path, suffix: str) -> None:
    """What a file holds decides, but for NumPy's own, which must be called so."""
    (tmp_path / f"x.{suffix}").write_bytes(encoded("PNG", plain((9, 8, 7))))
    if suffix == "npz":
        with pytest.raises(DataError, match="not a NumPy archive"):
            to_pixels(tmp_path / "x.npz", settings())
    else:
        assert to_pixels(tmp_path / f"x.{suffix}", settings())[:, 0, 0].tolist() == [9, 8, 7]


# --- folders --------------------------------------------------------------------------------------


def names(folder: Path, **options: Any) -> list[str]:
    source = make_source(folder_recipe(folder, **{"data.options": options}))
    return [source.name_of(k) for k in range(len(source))]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, control characters, line ends, and as long as a name may be."""
    odd = [b"\xff\xfe.png", b"line\nend.png", b"bell\x07.png", b"\x1b[31mred.png", b"x" * 251 + b".png"]
    for name in odd:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            file.write(encoded("PNG", plain((1, 2, 3))))
    data = prepared(folder_recipe(tmp_path))
    assert len(data.pixels) == len(odd)
    expected = [r"\xff\xfe.png", r"line\nend.png", r"bell\x07.png", r"\x1b[31mred.png", "x" * 251 + ".png"]
    assert set(data.names) == set(expected)
    assert all(name.isprintable() for name in data.names)
    assert names(tmp_path) == names(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_odd_names_are_set_aside_as_readably(tmp_path: Path) -> None:
    folder = some_images(tmp_path / "photos")
    (folder / "\udcff\n.png").write_bytes(b"no picture")
    first, again = (prepared(folder_recipe(folder)) for _ in range(2))
    assert first.set_aside == again.set_aside == ((r"\xff\n.png", "cannot be read: not an image that Pillow knows"),)


def test_links_in_circles_end(tmp_path: Path) -> None:
    folder = some_images(tmp_path / "photos" / "cats", 2)
    (folder / "again").symlink_to(tmp_path / "photos", target_is_directory=True)
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "photos" / "self").symlink_to(tmp_path / "photos" / "self")
    (tmp_path / "photos" / "one").symlink_to(tmp_path / "photos" / "two", target_is_directory=True)
    (tmp_path / "photos" / "two").symlink_to(tmp_path / "photos" / "one", target_is_directory=True)
    assert names(tmp_path / "photos") == [f"cats{os.sep}0.png", f"cats{os.sep}1.png"]


def test_linked_folders_are_classes_and_each_real_folder_is_found_once(tmp_path: Path) -> None:
    some_images(tmp_path / "elsewhere" / "birds", 2)
    some_images(tmp_path / "photos" / "dogs", 1)
    for link, target in (("birds", "elsewhere/birds"), ("also birds", "elsewhere/birds"), ("hounds", "photos/dogs")):
        (tmp_path / "photos" / link).symlink_to(tmp_path / target, target_is_directory=True)
    source = make_source(folder_recipe(tmp_path / "photos"))
    assert source.classes == ("also birds", "dogs")
    assert [source[k].label for k in range(len(source))] == [1, 0, 0]


@pytest.mark.parametrize("target", ["nowhere.png", "loop.png"])
def test_links_to_nothing_are_set_aside_with_the_reason(tmp_path: Path, target: str) -> None:
    folder = some_images(tmp_path / "photos")
    (folder / "loop.png").symlink_to(folder / target)
    ((name, reason),) = prepared(folder_recipe(folder)).set_aside
    assert name == "loop.png"
    assert reason.startswith("cannot be read: ")
    assert len(reason) > 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """It would be waited for."""
    os.mkfifo(some_images(tmp_path / "photos", 2) / "pipe.png")
    assert names(tmp_path / "photos") == ["0.png", "1.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything may be read")
def test_files_and_folders_without_permission_are_set_aside(tmp_path: Path) -> None:
    folder = some_images(tmp_path / "photos")
    (folder / "0.png").chmod(0)
    some_images(folder / "locked").chmod(0)
    try:
        aside = dict(prepared(folder_recipe(folder)).set_aside)
    finally:
        (folder / "locked").chmod(0o755)
    assert aside == dict.fromkeys(["0.png", f"locked{os.sep}"], "cannot be read: Permission denied")


def test_a_folder_that_cannot_be_listed_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = some_images(tmp_path / "photos")
    some_images(folder / "locked")
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if os.fsencode(path).endswith(b"locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(file_list.os, "scandir", scandir)
    ((name, reason),) = prepared(folder_recipe(folder)).set_aside
    assert name == f"locked{os.sep}"
    assert reason.startswith("cannot be read: ")


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=40), st.integers(1, 8))
def test_names_are_sorted_whatever_their_number(found: list[bytes], run: int) -> None:
    found = [name.replace(b"\0", b"0").replace(b"/", b"_") for name in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_list, "RUN", run)
        assert list(file_list._in_order(iter(found))) == sorted(found)


# --- bytes of any kind ----------------------------------------------------------------------------

SEEDS = {
    "png": encoded("PNG", plain((1, 2, 3))),
    "gif": encoded("GIF", plain(7)),
    "jpg": encoded("JPEG", plain((1, 2, 3))),
    "webp": encoded("WEBP", plain((1, 2, 3))),
    "tif": encoded("TIFF", plain((1, 2, 3))),
    "bmp": encoded("BMP", plain((1, 2, 3))),
    "ppm": encoded("PPM", plain((1, 2, 3))),
    "npy": npy(np.zeros((8, 8, 3), np.uint8)),
    "npz": npz(x=npy(np.zeros((8, 8, 3), np.uint8))),
}


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A real file with some bytes changed, cut out or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change" if content:
                content[at] = draw(st.integers(0, 255))
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
            case _:
                content[at:at] = draw(st.binary(max_size=16))
    return bytes(content)


def only_data_error(content: bytes, suffix: str, asked: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"x.{suffix}"
        path.write_bytes(content)
        try:
            pixels = to_pixels(path, asked)
        except DataError:
            return
    assert pixels.shape == (asked.channels, 8, 8)


ASKED = [settings(), settings(channels=1, depth=16), settings(channels=5)]


@pytest.mark.parametrize("suffix", SEEDS)
@examples(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_pixels_or_data_errors(suffix: str, data: st.DataObject) -> None:
    only_data_error(data.draw(mutated(SEEDS[suffix])), suffix, data.draw(st.sampled_from(ASKED)))


@examples(max_examples=150)
@given(st.binary(max_size=200), st.sampled_from(sorted(SEEDS)), st.sampled_from(ASKED))
def test_any_bytes_give_pixels_or_data_errors(content: bytes, suffix: str, asked: Any) -> None:
    only_data_error(content, suffix, asked)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small store, by file."""
    folder = tmp_path_factory.mktemp("store")
    with StoreWriter(folder) as writer:
        for k in range(3):
            writer.append(np.full((1, 4, 4), k, np.uint8), np.zeros(2, np.float32), k, f"name {k}")
        writer.finish({"source": "test", "path": "", "classes": [], "set_aside": []})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@examples(max_examples=150)
@given(data=st.data())
def test_mutated_caches_give_data_errors_or_what_was_kept(stored: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(stored)))
    content = data.draw(mutated(stored[name]) | st.binary(max_size=300))
    with tempfile.TemporaryDirectory() as place:
        for each, whole in stored.items():
            (Path(place) / each).write_bytes(content if each == name else whole)
        try:
            kept = Store.open(Path(place))
        except DataError:
            return
        assert list(kept.names) == ["name 0", "name 1", "name 2"]
        assert kept.labels.tolist() == [0, 1, 2]
        assert all(whole for _, whole in kept.pixels_checked()) == (kept.pixels.tolist() == expected_pixels())


def expected_pixels() -> list[Any]:
    return [np.full((1, 4, 4), k).tolist() for k in range(3)]


@given(st.binary(max_size=200))
def test_any_index_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "index.json").write_bytes(content)
        with pytest.raises(DataError):
            read_index(Path(place))
