"""Hugging Face datasets on this machine and on their hub: found, and opened without telling anyone of it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_workbench.core import DataError, PluginError

from .file_list import FileList, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB = re.compile(
    r"(?:hf://(?:datasets/)?|https://huggingface\.co/datasets/)(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?/?"
)
FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}
HOW = "Name a folder, a .parquet, .json, .jsonl, .csv or .arrow file, or a dataset of the hub: hf://owner/name"


def library() -> Any:
    """The package datasets. Raises PluginError where it is missing or broken."""
    install = "Install it: pip install 'imagen-workbench[datasets]'"
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise PluginError(f"Hugging Face datasets are not installed ({error})", fix=install) from error
    except Exception as error:
        raise PluginError(f"Hugging Face datasets cannot be imported: {error}", fix=install) from error
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # errors are ours to tell
    return datasets


@contextlib.contextmanager
def reaching(*, allowed: bool) -> Iterator[None]:
    """Within, the libraries may use the network only where that is allowed, and never count or report anything."""
    from datasets import config
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE or not allowed
    settings: list[tuple[Any, str, bool]] = [
        (constants, "HF_HUB_OFFLINE", offline),
        (constants, "HF_HUB_DISABLE_TELEMETRY", True),
        (config, "HF_HUB_OFFLINE", offline),
        (config, "HF_UPDATE_DOWNLOAD_COUNTS", False),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in settings if hasattr(module, name)]
    try:
        for module, name, value in settings:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class Place:
    """Where a dataset is. path: on this machine, None for one of the hub, which then has a name."""

    def __init__(self, path: str) -> None:
        found = HUB.fullmatch(path)
        self.text = path
        self.name, self.revision = (found["name"], found["revision"]) if found else ("", None)
        self.path = None if found else Path(path).expanduser()

    def opened(self, split: str, config: str, *, streaming: bool, download: bool) -> Any:
        """A datasets.Dataset, or an IterableDataset for streaming. Raises DataError or PluginError."""
        datasets = library()
        if self.name and streaming and not download:
            raise DataError("is read over the network", file=self.text, fix=self._allow)
        try:
            with reaching(allowed=download):
                return self._loaded(datasets, split, config, streaming=streaming)
        except DataError:
            raise
        except Exception as error:
            # from the readers of many formats, or from the network
            fix = HOW
            if self.name:
                fix = "Check its name, and that there is a network" if download else self._allow
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"cannot be opened: {reason}", file=self.text, fix=fix) from error

    def fingerprint(self) -> str:
        """Of names, sizes and times of change; empty for the hub."""
        if self.path is None:
            return ""
        digest = hashlib.sha256(str(self.path.resolve()).encode(errors="surrogateescape"))
        files = [self.path] if self.path.is_file() else _files(self.path)
        for file in files:
            name = str(file.relative_to(self.path))  # with its folder, which may be its class
            digest.update(repr(name).encode())
            stamp(digest, file)
        return digest.hexdigest()

    def pin(self, *, download: bool) -> str:
        """Reads the hub's commit of now, and keeps to it. Raises DataError where it cannot be reached."""
        try:
            with reaching(allowed=download):
                from huggingface_hub import HfApi

                self.revision = HfApi().dataset_info(self.name, revision=self.revision).sha
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"cannot be reached: {reason}", file=self.text, fix="Try again later") from error
        return self.revision or ""

    @property
    def _allow(self) -> str:
        return "It is not on this machine; to download it, set data.options.download to true"

    def _loaded(self, datasets: Any, split: str, config: str, *, streaming: bool) -> Any:
        options = {"split": split, "streaming": streaming}
        if self.path is None:
            return datasets.load_dataset(self.name, config or None, revision=self.revision, **options)
        if self.path.is_file():
            kind = FORMATS.get(self.path.suffix.lower())
            if kind is None:
                raise DataError("is no file of a known format", file=self.path, fix=HOW)
            return datasets.load_dataset(kind, data_files=[str(self.path)], **options)
        if not self.path.is_dir():
            raise DataError("no such file or folder", file=self.text, fix=HOW)
        if (self.path / "dataset_dict.json").is_file() or (self.path / "state.json").is_file():
            return self._saved(datasets.load_from_disk(str(self.path)), split, streaming=streaming)
        return datasets.load_dataset(str(self.path.absolute()), config or None, **options)

    def _saved(self, found: Any, split: str, *, streaming: bool) -> Any:
        """What save_to_disk has written: one dataset, or one for each split."""
        if isinstance(found, dict):
            if split not in found:
                raise DataError(f"has no split {split!r}", field="data.options.split", fix=f"Known: {', '.join(found)}")
            found = found[split]
        return found.to_iterable_dataset() if streaming else found


def _files(folder: Path) -> Iterator[Path]:
    listed = FileList(folder, lambda _: True, lambda name: not name.startswith(b"."))
    return (Path(os.fsdecode(listed.path(index))) for index in range(len(listed)))
