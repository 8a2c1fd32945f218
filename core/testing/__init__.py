"""Tests to inherit: one class for each kind of thing, which every member passes, ours and a plugin author's.

    from imagen_workbench.core.testing import DatasetContract

    class TestMyDataset(DatasetContract):
        def make_source(self, folder):
            return MyDataset(Data(source="mine"), MyOptions())

pytest finds the tests in the subclass; this package does not need pytest itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .denoising import DenoiserContract, SamplerContract
    from .plugins import ConditioningContract, DatasetContract

__all__ = ["ConditioningContract", "DatasetContract", "DenoiserContract", "SamplerContract"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import denoising, plugins

    return getattr(denoising if name in ("DenoiserContract", "SamplerContract") else plugins, name)
