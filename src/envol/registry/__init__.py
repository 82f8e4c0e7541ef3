"""Packages of trained models, their versions, and which of them is the champion."""

from __future__ import annotations

from envol.registry.aliases import ACCEPTED, CHAMPION, PREDICTING, AliasChange
from envol.registry.fields import Field, UnsupportedTypeError
from envol.registry.loader import read_manifest
from envol.registry.package import CARD, Package
from envol.registry.records import Version
from envol.registry.signature import ALL_ROWS, Problem, Signature, described
from envol.registry.versions import Registry

__all__ = [
    "CARD",
    "ACCEPTED",
    "ALL_ROWS",
    "CHAMPION",
    "PREDICTING",
    "AliasChange",
    "Field",
    "Package",
    "Problem",
    "Registry",
    "Signature",
    "UnsupportedTypeError",
    "Version",
    "described",
    "read_manifest",
]
