"""Saved states: `checkpoints/<step>/` with safetensors files and `state.json`, there whole or not at all.

Every file's SHA-256 stands in `state.json`, and its own as `digest`; a damaged checkpoint is passed over for the
one before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelError, RunError
from .files import folder_atomically, remove_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

KEPT = 3
"""Checkpoints that stay when newer ones come, beside the best."""

METADATA = "imagen-workbench"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state. facts: what `state.json` says beside the files."""

    path: Path
    facts: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.facts["step"])

    def names(self) -> tuple[str, ...]:
        return tuple(self.facts["files"])

    def is_good(self) -> bool:
        """Whether every file is as it was saved."""
        try:
            for name in self.names():
                self.tensors(name)
        except (ModelError, SafetensorError):
            return False
        return True

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file. Raises ModelError where it is damaged or not there."""
        path = self.path / f"{name}.safetensors"
        if name not in self.facts["files"]:
            raise ModelError(f"has no {name}", file=self.path, fix=f"It has {', '.join(self.names())}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", file=path, fix="Use an earlier checkpoint") from error
        if hashlib.sha256(content).hexdigest() != self.facts["files"][name]:
            raise ModelError(
                "is damaged: its checksum is not the one it was saved with", file=path, fix="Use an earlier checkpoint"
            )
        return safetensors.torch.load(content)


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> Checkpoint:
    """Saves a state under `folder/<step>`, then thins older ones. A good checkpoint of this step is kept as it is.

    tensors: file name → tensors by name. Raises RunError where the drive refuses.
    """
    path = folder / f"{step:08d}"
    existing = read_checkpoint(path) if path.exists() else None
    if existing is not None and existing.is_good():
        return existing
    remove_folder(path)
    try:
        with folder_atomically(path) as unfinished:
            sums = {}
            for name, group in tensors.items():
                content = safetensors.torch.save({key: tensor.cpu().contiguous() for key, tensor in group.items()})
                sums[name] = hashlib.sha256(content).hexdigest()
                write_atomically(unfinished / f"{name}.safetensors", content)
            written = {**facts, "step": step, "files": sums}
            written["digest"] = _digest(written)
            write_atomically(unfinished / "state.json", json.dumps(written, indent=1, ensure_ascii=False))
    except OSError as error:
        raise RunError(
            f"the state cannot be saved: {error.strerror or error}",
            file=path,
            fix="Free some space; nothing saved before is lost",
        ) from error
    _thin(folder)
    return Checkpoint(path, written)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in this folder, or None where it is not whole; its tensors are checked as they are read."""
    try:
        facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(facts, dict) and isinstance(facts.get("files"), dict) and isinstance(facts.get("step"), int)
    if not whole or facts.get("digest", "") not in ("", _digest(facts)):
        return None
    if any(not (path / f"{name}.safetensors").is_file() for name in facts["files"]):
        return None
    return Checkpoint(path, facts)


def _digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of what `state.json` says, but for the digest itself."""
    said = {key: value for key, value in facts.items() if key != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Those that are whole, newest first."""
    found = (read_checkpoint(path) for path in folder.glob("[0-9]*") if path.name.isdigit())
    return sorted((each for each in found if each is not None), key=lambda each: each.step, reverse=True)


def load_newest(folder: Path) -> tuple[Checkpoint, dict[str, dict[str, Tensor]], list[str]] | None:
    """The newest checkpoint whose every tensor is as saved, its tensors, and why newer ones were passed over.

    None where there are no checkpoints. Raises RunError where there are, but none is good.
    """
    known = sorted((path for path in folder.glob("[0-9]*") if path.name.isdigit()), reverse=True)
    passed: list[str] = []
    for path in known:
        checkpoint = read_checkpoint(path)
        if checkpoint is None:
            passed.append(f"{path.name}: not whole")
            continue
        try:
            return checkpoint, {name: checkpoint.tensors(name) for name in checkpoint.names()}, passed
        except (ModelError, SafetensorError) as error:
            passed.append(f"{path.name}: {error}")
    if passed:
        raise RunError(
            f"no saved state is good ({'; '.join(passed)})", file=folder, fix="Start the run again elsewhere"
        )
    return None


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over (name, dtype, shape, bytes) in order of names: the same whatever file they lie in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_model_file(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """A model in one file: its weights, with recipe and card in the metadata."""
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={METADATA: json.dumps(facts, ensure_ascii=False)},
    )
    write_atomically(path, content)


def read_model_facts(path: Path) -> dict[str, Any]:
    """As `read_model_file`, but the facts alone."""
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA, "")
        facts = json.loads(text) if text else None
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"cannot be read as safetensors: {error}", file=path, fix="Is the file whole?") from error
    if not isinstance(facts, dict):
        raise ModelError(
            "carries no recipe", file=path, fix="Only model files written by Imagen Workbench can be opened"
        )
    return facts


def read_model_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and facts of a model file. Raises ModelError where it is none of ours, or damaged."""
    facts = read_model_facts(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot be read as safetensors: {error}", file=path, fix="Is the file whole?") from error


def _thin(folder: Path) -> None:
    """Removes older states and what a killed writer left; what is in use elsewhere stays until the next time.

    The best one stays, too: that of the lowest held-out loss (`held_out` among its facts).
    """
    known = checkpoints(folder)
    measured = [each for each in known if each.facts.get("held_out") is not None]
    best = min(measured, key=lambda each: each.facts["held_out"], default=None)
    older = [each.path for each in known[KEPT:] if best is None or each.path != best.path]
    for old in [*older, *folder.glob(".unfinished-*")]:
        with contextlib.suppress(OSError):
            remove_folder(old)
