"""`pytest --imagen-plugin NAME`: what Imagen Workbench asks of a plugin, as tests.

A module of its own beside the package: pytest reads it before everybody's tests, so it brings nothing in.
"""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("imagen-workbench")
    group.addoption(
        "--imagen-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="hold this plugin of Imagen Workbench against the contract of its kind; several are possible",
    )
    group.addoption(
        "--imagen-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the recipe that the plugins are tested with, such as data.path=…",
    )
    parser.addini("imagen_plugins", "plugins of Imagen Workbench that are tested beside the tests here", "args")


def pytest_configure(config: Any) -> None:
    asked, own = config.getoption("--imagen-plugin"), config.getini("imagen_plugins")
    if not asked and not own:
        return
    from imagen_workbench.workbench.contracts_in_pytest import Contracts

    if asked and config.args_source is config.ArgsSource.INVOCATION_DIR:
        config.args = []  # these alone, not all that lies about here
    contracts = Contracts(list(dict.fromkeys(asked or own)), config.getoption("--imagen-set"))
    config.pluginmanager.register(contracts, "imagen-workbench-contracts")
