"""Print pip's constraints for an environment with every lower bound of pyproject.toml.

``make test-lowest`` runs the tests of the main path there, so that the bounds stay true.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ["sklearn", "plot", "scipy", "onnx", "demo", "playground", "test"]


def bounds(project):
    """The requirements with a lower bound, of the package and its extras, held to it."""
    requirements = list(project["dependencies"])
    for extra in EXTRAS:
        requirements += project["optional-dependencies"][extra]
    matches = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement) for requirement in requirements)
    return sorted({f"{found[1]}=={found[2]}" for found in matches if found})


if __name__ == "__main__":
    print(*bounds(tomllib.loads(PROJECT.read_text())["project"]), sep="\n")
