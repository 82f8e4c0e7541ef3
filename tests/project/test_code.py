"""Helpers and values of all kinds count by what they consist of, and the same in every load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from envol.project import Project

Load = Callable[..., Project]
NAMED = ["nodes"]


def hashes(project: Project) -> dict[str, dict[str, str]]:
    return {name: asdict(definition) for name, definition in project.definitions.items()}


ODD = """
import dataclasses, enum, re
import numpy as np
import dataframely as dy

{given}

@source()
def s(window):
    return {used}
"""


@pytest.mark.parametrize(
    ("given", "changed", "used"),
    [
        ("def make(by):\n    def inner(x):\n        return x * by\n    return inner\nF = make(2)",
         "def make(by):\n    def inner(x):\n        return x * by\n    return inner\nF = make(3)", "F(1)"),
        ("def f(x, *, by=object, n=[1]): return x", "def f(x, *, by=object, n=[2]): return x", "f(1)"),
        ("F = lambda x: x in {'b', 'a'}", "F = lambda x: x in {'b', 'c'}", "F(1)"),
        ("F = [lambda x: [y + 1 for y in x]]", "F = [lambda x: [y + 2 for y in x]]", "F[0](1)"),
        ("class Kind(enum.Enum):\n    A = 1\nX = Kind.A",
         "class Kind(enum.Enum):\n    A = 2\nX = Kind.A", "X"),
        ("@dataclasses.dataclass(frozen=True)\nclass P:\n    x: int\nX = P(1)",
         "@dataclasses.dataclass(frozen=True)\nclass P:\n    x: int\nX = P(2)", "X"),
        ("class Q:\n    __slots__ = ('x',)\n    def __init__(self, x): self.x = x\nX = Q(1)",
         "class Q:\n    __slots__ = ('x',)\n    def __init__(self, x): self.x = x\nX = Q(2)", "X"),
        ("class B:\n    def f(self): return 1\nclass C(B): pass",
         "class B:\n    def f(self): return 2\nclass C(B): pass", "C().f()"),
        ("class C:\n    @staticmethod\n    def f(): return 1",
         "class C:\n    @staticmethod\n    def f(): return 2", "C.f()"),
        ("class C:\n    def __init__(self, n): self.n = n\n    def f(self): return self.n\nF = C(1).f",
         "class C:\n    def __init__(self, n): self.n = n\n    def f(self): return self.n\nF = C(2).f",
         "F()"),
        ("X = re.compile('a' * 300 + 'b')", "X = re.compile('a' * 300 + 'c')", "X"),
        ("X = np.array([1, 2])", "X = np.array([1, 3])", "X"),
        ("X = np.array(['a', None])", "X = np.array(['b', None])", "X"),
        ("X = pl.DataFrame({'a': [1]})", "X = pl.DataFrame({'a': [2]})", "X"),
        ("X = pl.Series(['a'])", "X = pl.Series(['b'])", "X"),
        ("X = pl.col('a').is_in(['x'])", "X = pl.col('a').is_in(['y'])", "X"),
        ("X = pl.Datetime('us')", "X = pl.Datetime('ms')", "X"),
        ("X = [{'a': (1, {2})}]", "X = [{'a': (1, {3})}]", "X"),
        ("X = []\nX.append(X)\nX.append(1)", "X = []\nX.append(X)\nX.append(2)", "X"),
        ("from math import sin as F", "from math import cos as F", "F(1)"),
        ("from json import dumps as F", "from json import loads as F", "F(1)"),
        ("import math as m", "import cmath as m", "m.sqrt(1)"),
    ],
)  # fmt: skip
def test_odd_values(load: Load, given: str, changed: str, used: str) -> None:
    one, again, other = (
        hashes(load(ODD.format(given=text, used=used)))["s"]["code"] for text in (given, given, changed)
    )
    assert one == again
    assert one != other


def test_a_contract_without_source(load: Load) -> None:
    text = "import dataframely as dy\nF = type('F', (dy.Schema,), {{'id': dy.Int64(min={})}})\n"
    node = "@source(contract=F)\ndef s(window): ...\n"
    one, again, other = (hashes(load(text.format(low) + node))["s"]["contract"] for low in (1, 1, 2))
    assert one == again
    assert one != other


def test_values_of_libraries_do_not_count(load: Load) -> None:
    text = "import logging, threading\nLOG = logging.getLogger()\nLOCK = threading.Lock()\n"
    node = "@source()\ndef s(window): return LOG, LOCK, object\n"
    assert hashes(load(text + node)) == hashes(load(text + node))


def test_a_module_passed_on_as_a_value_counts_whole(load: Load) -> None:
    files = {"nodes.py": "import helper\n@source()\ndef s(window): return dir(helper)\n"}
    one, other = (
        hashes(
            load(
                {**files, "helper.py": f"import deep\nX = deep.Y + {x}\n", "deep.py": "Y = 1"}, modules=NAMED
            )
        )
        for x in (1, 2)
    )
    assert one != other


def test_modules_of_folders_and_packages_are_followed(load: Load) -> None:
    flow = "import lib.a\nimport pkg.b\n@source()\ndef s(window): return lib.a.X, pkg.b.Y\n"
    lazy = "@source()\ndef s(window):\n    import lib.a\n    from pkg import b\n    return lib.a.X, b.Y\n"
    for text in (flow, lazy):
        found = [
            hashes(
                load(
                    {
                        "nodes.py": text,
                        "lib/a.py": f"X = {x}\n",
                        "pkg/__init__.py": "",
                        "pkg/b.py": f"Y = {y}\n",
                    },
                    modules=NAMED,
                )
            )["s"]["code"]
            for x, y in ((1, 1), (2, 1), (1, 2), (1, 1))
        ]
        assert len(set(found)) == 3
        assert found[0] == found[3]


def test_recursion_ends(load: Load) -> None:
    text = "import nodes\ndef a(): return nodes.b()\ndef b(): return a(), nodes\n"
    text += "@source()\ndef s(window): return a(), s\n"
    assert hashes(load(text))["s"]["code"]
