"""Imports point one way: down the order of the folders, and never in a circle."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ORDER = (
    "support",
    "core",
    "models",
    "sampling",
    "objectives",
    "worlds",
    "prompts",
    "rewards",
    "pages",
    "evaluation",
    "training",
    "recipes",
    "analysis",
    "workbench",
    "commands",
)
"""A folder may import from itself and from those before it."""
FREE = ("__init__", "__main__")
"""The package's own files, which may import anything. No folder imports from them."""


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """One import. Files are named by their parts below the package, such as ("models", "lora")."""

    place: str  # file:line
    source: tuple[str, ...]
    target: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {'/'.join(self.source)} -> {'/'.join(self.target)}"


def arrows(package: Path) -> Iterator[Arrow]:
    """Every import of one of the package's files by another, wherever in a file it stands."""
    for file in sorted(package.rglob("*.py")):
        source = file.relative_to(package).with_suffix("").parts
        for node in ast.walk(ast.parse(file.read_text())):
            for name in imported(node, (package.name, *source[:-1])):
                target = found(package, name)
                if target not in (None, source):
                    place = f"{file.relative_to(package.parent)}:{node.lineno}"
                    yield Arrow(place=place, source=source, target=target)


def imported(node: ast.AST, here: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The dotted names that a statement in a package's folder imports, in parts."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = here[: len(here) - node.level + 1] if node.level else ()
        base = (*above, *(node.module.split(".") if node.module else ()))
        return [(*base, alias.name) for alias in node.names]
    return []


def found(package: Path, name: tuple[str, ...]) -> tuple[str, ...] | None:
    """The file of the package that holds a name; None for other packages' names."""
    if name[0] != package.name:
        return None
    for end in range(len(name), 0, -1):
        path = package.joinpath(*name[1:end])
        if path.is_dir():
            return (*name[1:end], "__init__")
        if path.with_suffix(".py").is_file():
            return name[1:end]
    return None


def climbing(package: Path) -> list[str]:
    """What breaks the order of the folders, a line for each."""
    lines = []
    for arrow in arrows(package):
        source, target = arrow.source[0], arrow.target[0]
        unknown = [name for name in (source, target) if name not in (*ORDER, *FREE)]
        if unknown:
            lines.append(f"{arrow}. The order in tests/project/test_arrows.py has no {unknown[0]}; give it its place there.")
        elif source not in FREE and (target in FREE or ORDER.index(target) > ORDER.index(source)):
            below = ", ".join(ORDER[: ORDER.index(source)]) or "no other folder"
            lines.append(f"{arrow}. This climbs: {source} comes before {target}. {source} may import from {below}.")
    return lines


def circles(package: Path) -> list[str]:
    """Circles of imports among the files and folders of each folder, a paragraph for each."""
    graphs: dict[tuple[str, ...], dict[str, dict[str, Arrow]]] = {}
    for arrow in arrows(package):
        pairs = zip(arrow.source, arrow.target, strict=False)
        depth = next(depth for depth, (source, target) in enumerate(pairs) if source != target)
        graph = graphs.setdefault(arrow.source[:depth], {})
        graph.setdefault(arrow.source[depth], {}).setdefault(arrow.target[depth], arrow)
    paragraphs = {}
    for folder, graph in graphs.items():
        for start in graph:
            circle = shortest_circle(graph, start)
            if not circle:
                continue
            steps = [str(graph[a][b]) for a, b in pairwise(circle)]
            names = " -> ".join("/".join((*folder, name)) for name in circle)
            paragraph = "\n  ".join([f"{names}: a circle. Move what they share into a file below them.", *steps])
            paragraphs.setdefault((folder, frozenset(circle)), paragraph)
    return list(paragraphs.values())


def shortest_circle(graph: dict[str, dict[str, Arrow]], start: str) -> list[str]:
    """The way from a node back to it, with the node at both ends; empty if there is none."""
    ways, seen = [[start]], set[str]()
    for way in ways:  # grows while it is read: breadth first
        for target in graph.get(way[-1], {}):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def test_imports_point_downwards():
    lines = climbing(Path(__file__).parents[2] / "vgrpo")
    assert not lines, "\n".join(lines)


def test_no_imports_in_circles():
    paragraphs = circles(Path(__file__).parents[2] / "vgrpo")
    assert not paragraphs, "\n".join(paragraphs)


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "vgrpo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "vgrpo"


LOOP = {"training/loop.py": "def train(): ...\n"}
ALLOWED = {
    "down": {"models/lora.py": "from vgrpo.core.flow import t\nimport vgrpo.support.files\n"},
    "itself": {"models/lora.py": "from vgrpo.models.policy import Policy\n", "models/policy.py": ""},
    "sideways in a function": {"rewards/a.py": "def f():\n    from vgrpo.rewards import b\n", "rewards/b.py": ""},
    "relative": {"models/adapters/sd3.py": "from ..policy import Policy\nfrom ...core import flow\n", "models/policy.py": ""},
    "the package's own files": {"__init__.py": "import vgrpo.training.loop\n", "__main__.py": "from vgrpo import train\n"},
    "others' packages": {"core/flow.py": "import torch\nfrom training.loop import train\n"},
    "lists of a folder": {"models/__init__.py": "from vgrpo.models.lora import a\n", "models/lora.py": "a = 1\n"},
}
CLIMBING = {
    "name": "from vgrpo.training.loop import train\n",
    "module": "import vgrpo.training.loop as loop\n",
    "folder": "from vgrpo import training\n",
    "file of a folder": "from vgrpo.training import loop\n",
    "relative": "from ..training import loop\n",
    "in a function": "def f():\n    from vgrpo.training.loop import train\n",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vgrpo.training.loop import train\n",
    "package": "from vgrpo import train\n",
}
CIRCLES = {
    "two files": {"core/a.py": "import vgrpo.core.b\n", "core/b.py": "import vgrpo.core.a\n"},
    "three files": {
        "core/a.py": "from vgrpo.core import b\n",
        "core/b.py": "from vgrpo.core.c import d\n",
        "core/c.py": "def f():\n    from .a import e\n",
    },
    "a file and its folder's list": {
        "core/__init__.py": "from vgrpo.core.a import x\n",
        "core/a.py": "from vgrpo.core import y\n",
    },
    "two folders": {"core/a.py": "import vgrpo.models.b\n", "models/c.py": "import vgrpo.core.d\n", "core/d.py": ""},
    "folders in a folder": {
        "rewards/text/a.py": "import vgrpo.rewards.served.b\n",
        "rewards/served/c.py": "import vgrpo.rewards.text.d\n",
        "rewards/served/b.py": "",
        "rewards/text/d.py": "",
    },
}


@pytest.mark.parametrize("files", ALLOWED.values(), ids=ALLOWED)
def test_allowed_arrows_pass(tmp_path, files):
    package = tree(tmp_path, {"core/flow.py": "", "support/files.py": ""} | LOOP | files)
    assert climbing(package) == []
    assert circles(package) == []


@pytest.mark.parametrize("text", CLIMBING.values(), ids=CLIMBING)
def test_climbing_arrows_are_found(tmp_path, text):
    (line,) = climbing(tree(tmp_path, {"__init__.py": "", "models/lora.py": text} | LOOP))
    place = f"vgrpo/models/lora.py:{len(text.splitlines())}"
    assert line.startswith(f"{place}: models/lora -> ")
    assert "models may import from support, core." in line


def test_folders_out_of_the_order_are_found(tmp_path):
    (line,) = climbing(tree(tmp_path, {"tools/x.py": "import vgrpo.core.flow\n", "core/flow.py": ""}))
    assert "has no tools" in line


@pytest.mark.parametrize("files", CIRCLES.values(), ids=CIRCLES)
def test_circles_are_found(tmp_path, files):
    (paragraph,) = circles(tree(tmp_path, {"models/b.py": ""} | files))
    names, *steps = paragraph.splitlines()
    assert len(steps) == names.count(" -> ") >= 2
    assert all(step.lstrip().startswith("vgrpo/") for step in steps)


def test_the_whole_settings_reach_few_files():
    """A reader who follows `Config` through training meets it in at most 12 files; the others are given the part they need."""

    def handles(file):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "Config" for alias in node.names):
                return True
            if isinstance(node, ast.Attribute) and node.attr == "config":  # run.config
                return True
        return False

    assert len([file for file in (Path(__file__).parents[2] / "vgrpo/training").glob("*.py") if handles(file)]) <= 12
