"""The lowest versions that pyproject.toml allows, as constraints for pip: `python .ci/lowest.py > lowest.txt`."""

import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(project: dict[str, Any]) -> list[str]:
    """Every `name>=version` of the dependencies and extras as `name==version`, with its marker."""
    extras = project["optional-dependencies"].values()
    return [
        item.replace(">=", "==", 1) for group in (project["dependencies"], *extras) for item in group if ">=" in item
    ]


if __name__ == "__main__":
    print(*lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]), sep="\n")
