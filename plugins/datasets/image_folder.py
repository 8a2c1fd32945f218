"""A folder of images; subfolders are classes."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from imagen_workbench.core import DataError, Example, Source

SUFFIXES = {
    ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tga", ".tif", ".tiff", ".webp",
}  # fmt: skip


class FolderOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: bool = Field(
        default=False, title="Hidden files", description="Whether names that begin with a dot are taken, too."
    )


class ImageFolder(Source):
    """Images of a folder. Those in a first-level subfolder belong to the class of its name."""

    title = "Folder of images"
    summary = "Your own images; subfolders are classes."
    needs_path = True
    defaults = {"size": [32, 32], "channels": 3, "validation": 0.1}  # noqa: RUF012
    Options = FolderOptions
    options: FolderOptions

    @cached_property
    def _root(self) -> Path:
        root = Path(self.settings.path).expanduser()
        if not root.exists():
            raise DataError("no such folder", file=root, fix="Check the path")
        if not root.is_dir():
            raise DataError("is not a folder", file=root, fix="Name the folder that the images are in")
        return root

    @cached_property
    def _files(self) -> list[Path]:
        found = [
            path
            for path in sorted(self._root.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file() and not self._skipped(path)
        ]
        if not found:
            raise DataError(
                "no images are in this folder",
                file=self._root,
                fix="Images are files such as .png, .jpg, .webp or .tiff, here or in subfolders",
            )
        return found

    def _skipped(self, path: Path) -> bool:
        return not self.options.hidden and any(part.startswith(".") for part in path.relative_to(self._root).parts)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for path in self._files if (name := self._class_of(path))}))

    def _class_of(self, path: Path) -> str:
        parts = path.relative_to(self._root).parts
        return parts[0] if len(parts) > 1 else ""

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path = self._files[index]
        name = self._class_of(path)
        return Example(path, self._classes.index(name) if name else None, self.name_of(index))

    def name_of(self, index: int) -> str:
        return str(self._files[index].relative_to(self._root))

    def fingerprint(self) -> str:
        """Of names, sizes and times of change: reading every file would take as long as decoding it."""
        digest = hashlib.sha256(str(self._root.resolve()).encode())
        for path in self._files:
            stat = path.stat()
            digest.update(f"{path.relative_to(self._root)}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()
