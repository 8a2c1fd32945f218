"""A folder of images; subfolders are classes, text files and tables beside the images tell more of them."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from imagen_workbench.core import Attribute, DataError, Example, Source

from .annotations import Annotations, annotations_in, sidecar
from .columns import Note
from .file_list import FileList, stamp

SUFFIXES = {
    b".avif", b".bmp", b".dib", b".gif", b".jfif", b".jp2", b".jpeg", b".jpg", b".npy", b".npz", b".pbm", b".pgm",
    b".png", b".pnm", b".ppm", b".tga", b".tif", b".tiff", b".webp",
}  # fmt: skip


LOOKED_AT = 256
"""Images that are looked at for a text file beside them; with none among these, none is looked for."""
NOTHING = Note()


class FolderOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: bool = Field(
        default=False, title="Hidden files", description="Whether names that begin with a dot are taken, too."
    )


class ImageFolder(Source):
    """Images of a folder. Those in a first-level subfolder belong to the class of its name.

    Captions come from a text file of the image's name, or from a table (see `annotations`); a table's column `label`
    names the classes where there are no subfolders, its other columns are attributes.
    """

    title = "Folder of images"
    summary = "Your own images; subfolders are classes, text files or a table beside them are captions."
    needs_path = True
    defaults = {"size": [32, 32], "channels": 3, "validation": 0.1}  # noqa: RUF012
    Options = FolderOptions
    options: FolderOptions

    @cached_property
    def _root(self) -> Path:
        root = Path(self.settings.path).expanduser()
        try:
            if not root.exists():
                raise DataError("no such folder", file=root, fix="Check the path")
            if not root.is_dir():
                raise DataError("is not a folder", file=root, fix="Name the folder that the images are in")
            os.scandir(root).close()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", file=root, fix="Choose another folder") from error
        return root

    @cached_property
    def _files(self) -> FileList:
        found = FileList(self._root, self._is_image, self._is_shown)
        if not len(found):
            raise DataError(
                "no images are in this folder",
                file=self._root,
                fix="Images are files such as .png, .jpg, .webp, .tiff or .npy, here or in subfolders",
            )
        return found

    def _is_image(self, name: bytes) -> bool:
        return os.path.splitext(name)[1].lower() in SUFFIXES and self._is_shown(name)  # noqa: PTH122 - bytes

    def _is_shown(self, name: bytes) -> bool:
        return self.options.hidden or not name.startswith(b".")

    @cached_property
    def _class_of_folder(self) -> list[str]:
        """Beside `FileList.folders`: the class, empty for the root itself."""
        return [printable(folder.split(os.fsencode(os.sep))[0]) for folder in self._files.folders]

    @cached_property
    def _annotations(self) -> Annotations:
        return annotations_in(self._root, self._files.folders)

    @cached_property
    def _has_sidecars(self) -> bool:
        stride = max(1, len(self) // LOOKED_AT)
        images = (self._files.path(index) for index in range(0, len(self), stride))
        return any(os.path.isfile(os.path.splitext(image)[0] + b".txt") for image in images)  # noqa: PTH113, PTH122

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for name in self._class_of_folder if name})) or self._annotations.labels

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @cached_property
    def _label_of_folder(self) -> list[int | None]:
        labels = {name: label for label, name in enumerate(self.classes)}
        return [labels.get(name) for name in self._class_of_folder]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self._annotations.attributes

    @property
    def fields(self) -> tuple[str, ...]:
        captions = self._has_sidecars or self._annotations.has_captions
        return (*super().fields, *(("caption",) if captions else ()))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        image = self._files.path(index)
        label = self._label_of_folder[self._files.folder_of(index)]
        note = self._annotations.notes.get(self._files.below_root(index), NOTHING)
        if label is None and note.label in self.classes:
            label = self.classes.index(note.label)
        caption = (sidecar(image) if self._has_sidecars else "") or note.caption or None
        path = Path(os.fsdecode(image))
        return Example(path, label, self.name_of(index), caption=caption, attributes=note.attributes)

    def name_of(self, index: int) -> str:
        return printable(self._files.below_root(index))

    def fingerprint(self) -> str:
        """Of names, sizes and times of change: reading every file would take as long as decoding it."""
        digest = hashlib.sha256(os.fsencode(self._root.resolve()))
        digest.update(self._annotations.digest.encode())
        for index in range(len(self)):
            digest.update(self._files.below_root(index))
            path = self._files.path(index)
            stamp(digest, path)
            if self._has_sidecars:
                stamp(digest, os.path.splitext(path)[0] + b".txt")  # noqa: PTH122 - bytes
        return digest.hexdigest()


def printable(path: bytes) -> str:
    """A name as it can be shown and written anywhere: control characters, and bytes that are no text, escaped."""
    text = path.decode(errors="backslashreplace")
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)
