"""Packages of trained models, their versions, and which of them is the champion."""

from __future__ import annotations

from envol.registry.fields import Field, UnsupportedTypeError
from envol.registry.signature import Problem, Signature, described

__all__ = ["Field", "Problem", "Signature", "UnsupportedTypeError", "described"]
