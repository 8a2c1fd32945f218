"""Tests to inherit: one class for each kind of thing, which every member passes, ours and a plugin author's.

    from imagen_workbench.core.testing import DatasetContract

    class TestMyDataset(DatasetContract):
        def make_source(self, folder):
            return MyDataset(Data(source="mine"), MyOptions())

pytest finds the tests in the subclass; this package does not need pytest itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conditioning import ConditioningContract
    from .datasets import DatasetContract
    from .denoising import DenoiserContract
    from .guidance import GuidanceContract
    from .networks import NetworkContract
    from .sampling import SamplerContract, StochasticSamplerContract
    from .schedules import GridContract, ScheduleContract
    from .streams import StreamContract

__all__ = [
    "ConditioningContract",
    "DatasetContract",
    "DenoiserContract",
    "GridContract",
    "GuidanceContract",
    "NetworkContract",
    "SamplerContract",
    "ScheduleContract",
    "StochasticSamplerContract",
    "StreamContract",
]

_ROOMS = {
    "ConditioningContract": "conditioning",
    "DatasetContract": "datasets",
    "DenoiserContract": "denoising",
    "GridContract": "schedules",
    "GuidanceContract": "guidance",
    "NetworkContract": "networks",
    "SamplerContract": "sampling",
    "ScheduleContract": "schedules",
    "StochasticSamplerContract": "sampling",
    "StreamContract": "streams",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
