"""The contracts of installed plugins as pytest's items. Only `imagen_workbench_pytest` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..core.errors import WorkbenchError
from ..core.testing.chosen import chosen, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Contracts:
    """Adds the tests of these plugins to those that pytest has found. settings: KEY=VALUE, as `plugins test` takes."""

    def __init__(self, names: Sequence[str], settings: Sequence[str]) -> None:
        self._names, self._settings = names, settings

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Before -k and -m choose among them."""
        for name in self._names:
            contract = Contract.from_parent(session, name=name, nodeid=name, settings=self._settings)
            found = list(contract.collect())
            items.extend(found)
            # so that they are counted
            session.config.hook.pytest_collectreport(report=pytest.CollectReport(name, "passed", None, [*found]))


class Contract(pytest.Collector):
    """A plugin's tests."""

    def __init__(self, *, settings: Sequence[str], **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings

    def collect(self) -> Iterator[Clause]:
        from ..core.testing.installed import tests_of  # brings torch along

        try:
            tests = tests_of(*chosen(self.name, self._settings))
        except WorkbenchError as error:
            raise pytest.UsageError(str(error)) from None
        for name, fault in tests:
            yield Clause.from_parent(self, name=name, fault=fault)


class Clause(pytest.Item):
    """One test. fault: what it finds wrong, in words; empty where it holds."""

    def __init__(self, *, fault: Callable[[], str], **given: Any) -> None:
        super().__init__(**given)
        self._fault = fault

    def runtest(self) -> None:
        if fault := self._fault():
            raise Broken(fault)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Broken):
            return f"{words_of(self.name)}: it does not hold.\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        return self.path, None, f"{self.nodeid.partition('::')[0]}: {words_of(self.name)}"


class Broken(AssertionError):
    """What does not hold, and what to do about it."""
