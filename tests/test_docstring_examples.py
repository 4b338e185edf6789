"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import ssl_mi

HOME = Path(ssl_mi.__file__).parent
WITH_EXAMPLES = [
    ".".join(("ssl_mi", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(HOME.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
