"""Thin snapshots of a run's averages, `ema/<step>.safetensors`: from them any EMA length can be rebuilt.

They stay when checkpoints are thinned. Each holds every average of its step, as `LENGTH/NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from ..errors import ModelError, RunError
from .checkpoint import read_model_facts, read_model_file, weights_hash, write_model_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

COUNT = 16
"""Snapshots over a whole run, evenly spread; the last at its end."""


@dataclass(frozen=True)
class Snapshot:
    """time: images that its averages reach over; lengths: theirs, as "0.100"; hash: over all tensors."""

    path: Path
    step: int
    time: int
    lengths: tuple[str, ...]
    hash: str

    def averages(self) -> dict[str, dict[str, Tensor]]:
        """length → tensors by name. Raises ModelError where the file is damaged."""
        tensors, _ = read_model_file(self.path)
        if weights_hash(tensors) != self.hash:
            raise ModelError(
                "is damaged: its content is not what was saved",
                file=self.path,
                fix="Remove it: EMA lengths are rebuilt from the others",
            )
        return {
            length: {key.partition("/")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{length}/")}
            for length in self.lengths
        }


def is_due(step: int, steps: int) -> bool:
    """Whether a snapshot is taken after this step of `steps`."""
    return step * COUNT // steps > (step - 1) * COUNT // steps


def write_snapshot(folder: Path, step: int, time: int, averages: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Replaces an earlier snapshot of this step. Raises RunError where the drive refuses."""
    tensors = {f"{length}/{name}": tensor for length, group in averages.items() for name, tensor in group.items()}
    facts = {"step": step, "time": time, "lengths": list(averages), "hash": weights_hash(tensors)}
    path = folder / f"{step:08d}.safetensors"
    try:
        write_model_file(path, tensors, facts)
    except OSError as error:
        raise RunError(
            f"the averages cannot be saved: {error.strerror or error}",
            file=path,
            fix="Free some space; nothing saved before is lost",
        ) from error


def snapshots(folder: Path, last_step: int) -> list[Snapshot]:
    """Those of steps up to `last_step`, oldest first; a file that is none of ours is left out."""
    found = []
    for path in sorted(folder.glob("[0-9]*.safetensors")):
        try:
            facts = read_model_facts(path)
            snapshot = Snapshot(path, facts["step"], facts["time"], tuple(facts["lengths"]), facts["hash"])
        except (ModelError, SafetensorError, KeyError):
            continue
        if snapshot.step <= last_step:
            found.append(snapshot)
    return found


def forget_after(folder: Path, step: int) -> None:
    """Removes the snapshots of later steps: training goes back to this one."""
    for path in folder.glob("[0-9]*.safetensors"):
        if path.stem.isdigit() and int(path.stem) > step:
            path.unlink(missing_ok=True)
