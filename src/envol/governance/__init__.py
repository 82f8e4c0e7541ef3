"""Decide on evidence: what a model's decisions are worth."""

from __future__ import annotations

from envol.governance.benefit import Benefit, benefit_range

__all__ = ["Benefit", "benefit_range"]
