"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

from ssl_mi import information

HOME = Path(information.__file__).parent
WITH_EXAMPLES = [
    ".".join(("ssl_mi.information", *path.relative_to(HOME).with_suffix("").parts))
    for path in sorted(HOME.rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
