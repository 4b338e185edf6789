"""Print, as pip's constraints, the lowest version of every dependency that pyproject.toml allows.

python .ci/lowest.py > lowest.txt; CI_CONSTRAINTS=lowest.txt .ci/run
"""

import re
import tomllib
from pathlib import Path

FLOOR = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)>=(?P<version>[0-9.]+)")


def floors(pyproject: dict) -> list[str]:
    """`name==version` of every `name>=version` of the package and of its `test` extra."""
    project = pyproject["project"]
    found = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        match = FLOOR.fullmatch(requirement)
        if match is None:
            raise SystemExit(f"{requirement!r} of pyproject.toml is not of the form name>=version: it has no floor")
        found[match["name"]] = match["version"]
    return [f"{name}=={version}" for name, version in found.items()]


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    print("\n".join(floors(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")))))
