"""Pickles a fitted model so that it loads without the project, and tells what it needs to load."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from envol.errors import ProjectError

ALWAYS = ("cloudpickle", "numpy", "polars")
WITH = {"scikit-learn": ("joblib", "scipy", "threadpoolctl")}
_by_value = threading.Lock()  # cloudpickle keeps the modules to pickle by value in a global
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def dump(estimator: Any, module: str) -> tuple[bytes, set[str]]:
    """The pickle of an estimator, and the modules that loading it imports.

    Modules of the project, and any that no installed distribution provides, are pickled by value.

    Args:
        module: the module that declares the model; what lies beside it is the project.

    Raises:
        ProjectError: it cannot be pickled and loaded again, or it holds on to Envol itself.
    """
    import cloudpickle

    own = _project_modules(module)
    while True:
        with _by_value, _pickled_by_value(own):
            try:
                payload = _named_by_content(cloudpickle.dumps(estimator))
                imported = _modules_of(payload)
            except Exception as error:
                raise ProjectError(
                    f"the fitted {type(estimator).__name__} cannot be pickled: {error}",
                    remedy="return an estimator without open files, locks, connections or generators",
                ) from error
        if any(_top(name) == "envol" for name in imported):
            raise ProjectError(
                f"the fitted {type(estimator).__name__} refers to Envol, and would not load without it",
                remedy="move what it uses from decorated functions to plain ones",
            )
        unknown = {name for name in imported if not _provided(name) and name in sys.modules} - own
        if not unknown:
            return payload, imported
        own |= unknown


def distributions(modules: set[str], kind: str) -> list[str]:
    """The distributions that a model needs to predict: of its modules, and of how it takes its inputs."""
    found = set(ALWAYS)
    for name in modules:
        found.update(_distributions_by_module().get(_top(name), ()))
    for name in sorted(found):
        found.update(WITH.get(name, ()))
    if kind in ("pandas", "arrow"):
        found.update(("pandas", "pyarrow") if kind == "pandas" else ("pyarrow",))
    return sorted(found)


def required(names: list[str]) -> list[str]:
    """The distributions and all that they require, as far as they are installed."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        found[name] = None
        for requirement in requirements:
            if "extra ==" not in requirement and (match := _NAME.match(requirement)):
                waiting.append(match[0])
    return sorted(found)


def _top(module: str) -> str:
    return module.partition(".")[0]


@cache
def _distributions_by_module() -> dict[str, list[str]]:
    return {module: sorted(set(names)) for module, names in metadata.packages_distributions().items()}


def _provided(module: str) -> bool:
    top = _top(module)
    return top in sys.stdlib_module_names or top == "__main__" or top in _distributions_by_module()


def _project_modules(module: str) -> set[str]:
    """Names of the loaded modules that lie in the folder which `module` is imported from."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return set()
    root = Path(file).resolve().parents[module.count(".") + (Path(file).stem == "__init__")]
    return {name for name, other in list(sys.modules.items()) if not _foreign(name) and _in(root, other)}


def _foreign(name: str) -> bool:
    return _top(name) == "envol" or _top(name) in sys.stdlib_module_names


def _in(root: Path, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not file or {"site-packages", "dist-packages"} & set(file.split(os.sep)):
        return False
    return Path(file).resolve().is_relative_to(root)


@contextmanager
def _pickled_by_value(names: set[str]) -> Iterator[None]:
    import cloudpickle

    before = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in sorted(names) if name not in before]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _named_by_content(payload: bytes) -> bytes:
    """The pickle with the identities of classes that it carries derived from its content.

    cloudpickle draws them at random, and two pickles of one estimator would differ.
    """
    from cloudpickle import cloudpickle

    tracked = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    drawn = [identity.encode() for identity in list(tracked.values())]
    drawn = sorted((identity for identity in drawn if identity in payload), key=payload.index)
    blank = payload
    for index, identity in enumerate(drawn):
        blank = blank.replace(identity, b"%032d" % index)
    content = hashlib.sha256(blank)
    for index, identity in enumerate(drawn):
        own = content.copy()
        own.update(b"%d" % index)
        payload = payload.replace(identity, own.hexdigest()[: len(identity)].encode())
    return payload


class _Recorder(pickle.Unpickler):
    """Loads a pickle, and notes the modules it imports."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(io.BytesIO(payload))
        self.modules: set[str] = set()

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        self.modules.add(module_name)
        found = super().find_class(module_name, global_name)
        if global_name == "subimport" and _top(module_name) == "cloudpickle":
            return self._noting(found)
        return found

    def _noting(self, subimport: Callable[[str], ModuleType]) -> Callable[[str], ModuleType]:
        def noting(name: str) -> ModuleType:
            self.modules.add(name)
            return subimport(name)

        return noting


def _modules_of(payload: bytes) -> set[str]:
    recorder = _Recorder(payload)
    recorder.load()
    return recorder.modules
