"""What a node is, as short hashes: equal hashes mean that making it again would change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from envol.project.code import code_parts
from envol.project.nodes import Node, Outcomes, Predictions
from envol.project.syntax import syntax_of

# Settings that say how a task is carried out, not what comes of it.
_CARRYING_OUT = {"retries", "backoff", "timeout", "isolated", "memory", "resources", "at_once", "doc"}
_CARRYING_OUT |= {"promote", "folds", "delay", "reread"}
# What is hashed in its own right.
_HASHED_APART = {"name", "function", "module", "arguments", "contract", "model"}


@dataclass(frozen=True)
class CodeHashes:
    """Hashes of a node's function and of its contract ("" for none), with all of the project they name."""

    function: str
    contract: str


@dataclass(frozen=True)
class Definition:
    """Hashes of a node's code, its parameters and settings, and its contract."""

    code: str
    parameters: str
    contract: str


def hash_code(nodes: Iterable[Node], root: Path) -> dict[str, CodeHashes]:
    """The hashes of the code of each node, by name, as the modules in the folder `root` are now."""
    hashes = {}
    for node in nodes:
        # Predictions follow the code of their model; a join of two tables has no code of the project.
        function = "" if isinstance(node, Outcomes) else digest(*code_parts(node.function, root))
        contract = "" if node.contract is None else digest(*_contract_parts(node.contract, root))
        hashes[node.name] = CodeHashes(function, contract)
    return hashes


def _contract_parts(contract: type[Any], root: Path) -> list[str]:
    made_by_hand = syntax_of(contract) is not None
    return code_parts(contract if made_by_hand else contract.columns(), root)


def parameters_of(node: Node) -> str:
    """Name of the node whose parameters count: predictions follow those of their model."""
    return node.model.name if isinstance(node, Predictions) else node.name


def define(node: Node, code: CodeHashes, parameters: Mapping[str, Any], root: Path) -> Definition:
    """The definition of a node of the project in the folder `root`."""
    if isinstance(node, Outcomes):
        settings: dict[str, Any] = {"key": node.model.key}
    else:
        declared = node.model if isinstance(node, Predictions) else node
        settings = {
            field.name: str(getattr(declared, field.name))
            for field in fields(declared)
            if field.name not in _CARRYING_OUT | _HASHED_APART
        }
    for name in ("lookback", "history"):
        if spans := getattr(node, name, None):
            settings[name] = sorted((one, str(span)) for one, span in spans.items())
    told = code_parts([settings, dict(sorted(parameters.items()))], root)
    return Definition(code=code.function, parameters=digest(*told), contract=code.contract)


def digest(*parts: str | bytes) -> str:
    """A hash of 16 hex digits (64 bits of BLAKE2b) over the parts in order."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()
