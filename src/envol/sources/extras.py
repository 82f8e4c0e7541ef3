"""Packages that only some connectors need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from envol.errors import UserError


def needed(module: str, extra: str) -> Any:
    """The module, which the extra of that name brings.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UserError(
            f"the package {error.name} is not installed", remedy=f'pip install "envol[{extra}]"'
        ) from None
