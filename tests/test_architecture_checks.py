"""The checks of the structure see a bad sample, and do not mind a good one."""

from __future__ import annotations

import pytest

from tests.support.structure import (
    changed_module_state,
    cycle,
    hidden_imports,
    imports_of,
    module_state,
    sample,
    upward_imports,
)


@pytest.mark.parametrize(
    "text",
    [
        "import handlers.http.auth",
        "from handlers import auth",
        "from handlers.http.auth import x",
        "import server",
        "import tests.support",
        "if True:\n    import handlers",
        "def f():\n    from handlers import auth",
        "from . import errors",
    ],
)
def test_an_upward_import_is_found(text: str) -> None:
    assert upward_imports(sample(services__a=text))
    assert upward_imports(sample(services__a="import services.b, models.c, os, handlersome")) == []


def test_a_cycle_is_found() -> None:
    assert cycle(sample(services__a="from services import b", services__b="import services.a"))
    three = sample(a="import b", b="from c import x", c="from a import y")
    assert cycle(three)
    assert cycle(sample(a="import b", b="import c", c="import os")) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import os",
        "async def f():\n    from os import path",
        "class A:\n    def f(self):\n        if x:\n            import os",
        "def f():\n    importlib.import_module('os')",
    ],
)
def test_a_hidden_import_is_found(text: str) -> None:
    assert hidden_imports(sample(a=text))
    assert hidden_imports(sample(a="import os\nif x:\n    import re")) == []


def test_a_banned_import_is_found() -> None:
    for text in ("import tornado.web", "from tornado import web", "from tornado.web import x"):
        assert imports_of(sample(services__a=text), "services", "tornado.web")
    assert imports_of(sample(services__a="import tornado.webs"), "services", "tornado.web") == []


@pytest.mark.parametrize(
    "text",
    [
        "cache = {}",
        "CACHE = {}",
        "CACHE: dict[str, int] = {}",
        "LIST = []",
        "users = ['a']",
        "SEEN = set()",
        "QUEUE = deque()",
        "store = Store()",
        "STORE = services.store.Store()",
        "client = connect('x').client()",
        "STORE = make_store()",
        "a.b = [1]",
        "if x:\n    pool = Pool()",
        "try:\n    pool = Pool()\nexcept E:\n    pool = None",
        "class Store: pass\nSTORE = Store()",
        "@dataclass\nclass A: pass\nONE = A()",
        "class A(msgspec.Struct): pass\nONE = A()",
        "class A(msgspec.Struct, frozen=False): pass\nONE = A()",
    ],
)
def test_module_state_is_found(text: str) -> None:
    assert module_state(sample(a=text))


@pytest.mark.parametrize(
    "text",
    [
        "log = logging.getLogger('usher')",
        "_WORD = re.compile('a')",
        "T = TypeVar('T')",
        "LIMIT = 5 * 60",
        "CODES = {400: 'bad'}",
        "__all__ = ['a']",
        "NAMES = frozenset({'a'})",
        "class A(msgspec.Struct, frozen=True): pass\nONE = A()",
        "@dataclass(frozen=True)\nclass A: pass\nONE = A()",
        "class A(NamedTuple): pass\nROWS = (A(), A())",
        "def f():\n    cache = {}",
        "class A:\n    def __init__(self):\n        self.cache = {}",
    ],
)
def test_constants_are_no_state(text: str) -> None:
    assert module_state(sample(a=text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "X = 1\ndef f():\n    global X",
        "X = {1: 2}\ndef f():\n    X[3] = 4",
        "X = {1: 2}\ndef f():\n    del X[1]",
        "X = {1: 2}\ndef f():\n    X.update(a=1)",
        "X = [1]\ndef f():\n    X.append(2)",
        "X = [1]\nX[0] += 1",
    ],
)
def test_a_change_of_a_module_is_found(text: str) -> None:
    assert changed_module_state(sample(a=text))
    same = "X = {1: 2}\ndef f(y):\n    y[1] = X[1]\n    y.update(X)\n    return X.get(1)"
    assert changed_module_state(sample(a=same)) == []
