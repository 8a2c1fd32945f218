"""Images of 16 bits and of any number of channels: what becomes of grey, colour, alpha, TIFFs and NumPy files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from image_files import folder_recipe, prepared, settings
from PIL import Image

from imagen_workbench.core.commands import ShowData, Train
from imagen_workbench.core.data.decode import to_pixels
from imagen_workbench.core.data.unit import to_unit
from imagen_workbench.core.errors import DataError
from imagen_workbench.core.events import DataShown, Failed, SampleRow
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)


def noise(shape: tuple[int, ...], dtype: Any = np.uint16) -> np.ndarray:
    return RANDOM.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


# --- 16 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_kept_as_it_is(tmp_path: Path, suffix: str) -> None:
    values = noise((8, 8))
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    kept = to_pixels(tmp_path / f"deep.{suffix}", settings(channels=1, depth=16))
    assert kept.dtype == np.uint16
    assert np.array_equal(kept[0], values)


@pytest.mark.parametrize("channels", [1, 3, 4, 2, 12])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_16_bit_arrays_are_kept_as_they_are(tmp_path: Path, channels: int, suffix: str) -> None:
    values = noise((8, 8, channels))
    path = tmp_path / f"deep.{suffix}"
    np.save(path, values) if suffix == "npy" else np.savez_compressed(path, values)
    kept = to_pixels(path, settings(channels=channels, depth=16))
    assert np.array_equal(kept, values.transpose(2, 0, 1))


def test_8_bits_become_16_with_white_staying_white() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4 + 3
    assert np.array_equal(to_pixels(values, settings(channels=1, depth=16))[0], values.astype(np.uint16) * 257)


def test_floats_keep_16_bits() -> None:
    values = np.linspace(0, 1, 64).reshape(8, 8)
    kept = to_pixels(values, settings(channels=1, depth=16))[0]
    assert np.abs(kept / 65535 - values).max() <= 0.5 / 65535


@pytest.mark.parametrize(("source", "channels"), [(1, 3), (1, 4), (3, 1), (3, 4), (4, 1), (4, 3)])
def test_colours_are_converted_at_16_bits_as_pillow_does_at_8(source: int, channels: int) -> None:
    image = noise((8, 8, source), np.uint8)
    shallow = to_pixels(image, settings(channels=channels))
    deep = to_pixels(image, settings(channels=channels, depth=16))
    assert np.abs(deep / 257 - shallow).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "CMYK", "1"])
def test_other_modes_are_converted_at_16_bits_as_at_8(mode: str) -> None:
    image = Image.fromarray(noise((8, 8, 3), np.uint8)).convert("P" if mode == "PA" else mode).convert(mode)
    for channels in (1, 3, 4):
        shallow = to_pixels(image, settings(channels=channels))
        assert np.abs(to_pixels(image, settings(channels=channels, depth=16)) / 257 - shallow).max() <= 1


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_16_bits_are_resized_as_8_are(fit: str) -> None:
    image = 80 + noise((40, 60, 3), np.uint8) // 3  # away from black and white, where 8 bits are cut off midway
    shallow = to_pixels(image, settings(size=[16, 12], fit=fit))
    deep = to_pixels(image, settings(size=[16, 12], fit=fit, depth=16))
    assert np.abs(deep / 257 - shallow).max() <= 1


def png_of_16_bit_colours(path: Path) -> None:
    """Two by two pixels, written by hand: Pillow has no such mode."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + noise((2, 3)).astype(">u2").tobytes() for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_16_bit_colours_that_pillow_would_cut_to_8_are_set_aside(tmp_path: Path) -> None:
    """Rather than losing half of their bits in silence; at 8 bits they are taken."""
    png_of_16_bit_colours(tmp_path / "deep.png")
    assert to_pixels(tmp_path / "deep.png", settings()).dtype == np.uint8
    with pytest.raises(DataError, match=r"save it as \.npy"):
        to_pixels(tmp_path / "deep.png", settings(depth=16))


def test_16_bits_reach_the_network(tmp_path: Path) -> None:
    """Through folder, cache and split; neighbouring values stay apart."""
    (tmp_path / "deep").mkdir()
    for k in range(4):
        np.save(tmp_path / "deep" / f"{k}.npy", np.full((8, 8, 1), 1000 + k, np.uint16))
    recipe = folder_recipe(tmp_path / "deep", **{"data.channels": 1, "data.depth": 16})
    for data in (prepared(recipe), prepared(recipe)):
        assert data.pixels.dtype == np.uint16
        x = to_unit(torch.from_numpy(data.pixels[np.argsort(data.names)]))
        assert x.dtype == torch.float32
        expected = torch.arange(1000, 1004) / 32767.5 - 1
        assert torch.allclose(x[:, 0, 0, 0], expected, atol=1e-7)


def test_black_is_minus_one_and_white_is_one() -> None:
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_unit(torch.tensor([0, 65535], dtype=torch.uint16)).tolist() == [-1, 1]


# --- any number of channels -----------------------------------------------------------------------


def test_many_channels_are_kept_and_resized_each_by_itself() -> None:
    image = 80 + noise((40, 60, 6), np.uint8) // 3
    kept = to_pixels(image, settings(channels=6, size=[16, 12]))
    assert (kept.shape, kept.dtype) == ((6, 16, 12), np.dtype(np.uint8))
    for k in range(6):
        alone = to_pixels(image[..., k], settings(channels=1, size=[16, 12]))
        assert np.abs(kept[k].astype(int) - alone[0]).max() <= 1


def test_shrinking_many_channels_is_antialiased() -> None:
    board = np.repeat((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 5, axis=2)
    assert np.abs(to_pixels(board, settings(channels=5))[:, 1:-1, 1:-1].astype(int) - 127).max() <= 3


def test_grey_and_alpha_are_two_channels_where_two_are_asked_for(tmp_path: Path) -> None:
    values = noise((8, 8, 2), np.uint8)
    Image.fromarray(values, "LA").save(tmp_path / "la.png")
    assert np.array_equal(to_pixels(tmp_path / "la.png", settings(channels=2)), values.transpose(2, 0, 1))


@pytest.mark.parametrize(("source", "asked"), [((8, 8, 5), 6), ((8, 8, 5), 3), ((8, 8, 3), 2), ((8, 8), 7)])
def test_another_count_is_set_aside_naming_both(source: tuple[int, ...], asked: int) -> None:
    has = source[2] if len(source) == 3 else 1
    with pytest.raises(DataError, match=f"has {has} channels, not the {asked} that the recipe asks for"):
        to_pixels(noise(source, np.uint8), settings(channels=asked))


def test_images_of_many_channels_and_16_bits_are_shown_trained_on_and_drawn(tmp_path: Path) -> None:
    """The first three channels are looked at."""
    for k in range(6):
        np.save(tmp_path / f"{k}.npy", noise((8, 8, 5)))
    recipe = folder_recipe(tmp_path, **{"data.channels": 5, "data.depth": 16})
    (shown,) = [each for each in events_of(Worker(), ShowData(1, recipe)) if isinstance(each, DataShown)]
    assert shown.images is not None
    assert shown.images.shape == (5, 8, 8, 3)
    data = prepared(recipe)
    expected = np.rint(data.pixels[data.train][:, :3] / 257).transpose(0, 2, 3, 1)
    assert np.abs(shown.images - expected).max() <= 1
    events = list(events_of(Worker(), Train(2, str(tmp_path / "run"), recipe)))
    assert not [event for event in events if isinstance(event, Failed)]
    rows = [event.images for event in events if isinstance(event, SampleRow) and event.images is not None]
    assert rows[-1].shape[1:] == (8, 8, 3)


# --- NumPy files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("first", [True, False])
def test_channels_may_come_first_or_last(tmp_path: Path, channels: int, first: bool) -> None:
    values = noise((channels, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", values if first else values.transpose(1, 2, 0))
    asked = settings(channels=channels, size=[8, 8] if channels != 8 else [9, 9])
    assert np.array_equal(to_pixels(tmp_path / "x.npy", asked), values)


def test_an_order_that_cannot_be_told_is_set_aside(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise((3, 8, 3), np.uint8))
    with pytest.raises(DataError, match="may be the first axis or the last"):
        to_pixels(tmp_path / "x.npy", settings())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", ">f8", "u1", "?"])
def test_arrays_of_every_layout(tmp_path: Path, order: Any, dtype: str) -> None:
    values = (np.arange(64).reshape(8, 8) % 2).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    white = {"u2": 65535, "u1": 255}.get(dtype[-2:], 1)
    expected = np.rint(np.asarray(values, np.float64) / white * 255)
    assert np.array_equal(to_pixels(tmp_path / "x.npy", settings(channels=1))[0], expected)


def test_a_folder_of_numpy_files_is_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for k in range(3):
        np.save(tmp_path / "a" / f"{k}.npy", noise((8, 8, 5), np.uint8))
        np.savez(tmp_path / "a" / f"{k}.npz", image=noise((8, 8, 5), np.uint8))
    data = prepared(folder_recipe(tmp_path, **{"data.channels": 5}))
    assert data.pixels.shape == (6, 5, 8, 8)
    assert not data.set_aside


# --- TIFFs ----------------------------------------------------------------------------------------


def test_the_pages_of_a_tiff_are_channels_where_so_many_are_asked_for(tmp_path: Path) -> None:
    pages = noise((5, 8, 8))
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "stack.tiff", save_all=True, append_images=rest)
    assert np.array_equal(to_pixels(tmp_path / "stack.tiff", settings(channels=5, depth=16)), pages)
    assert np.array_equal(to_pixels(tmp_path / "stack.tiff", settings(channels=1, depth=16))[0], pages[0])


@pytest.mark.parametrize("first", [True, False])
def test_a_tiff_of_many_bands_is_read_by_tifffile(tmp_path: Path, first: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = noise((6, 8, 8))
    if first:
        tifffile.imwrite(tmp_path / "bands.tif", values, planarconfig="separate", photometric="minisblack")
    else:
        tifffile.imwrite(tmp_path / "bands.tif", values.transpose(1, 2, 0).copy(), planarconfig="contig")
    assert np.array_equal(to_pixels(tmp_path / "bands.tif", settings(channels=6, depth=16)), values)


def test_16_bit_colours_in_a_tiff_are_kept_by_tifffile(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = noise((8, 8, 3))
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb")
    kept = to_pixels(tmp_path / "deep.tif", settings(depth=16))
    assert np.array_equal(kept, values.transpose(2, 0, 1))


def test_without_tifffile_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "bands.tif", noise((8, 8, 6)), planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r"pip install 'imagen-workbench\[tiff\]'"):
        to_pixels(tmp_path / "bands.tif", settings(channels=6))
