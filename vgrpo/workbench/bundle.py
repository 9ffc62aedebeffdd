"""The page's modules as one script, and its styles as one sheet, for a file that opens without a server.

Each module becomes a function that is called once, in the order of their imports. This knows the forms of import and export
that the modules here have, each on a line of its own, and refuses others.
"""

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
STYLES = ("uplot/uPlot.min.css", "base.css", "views.css")
IMPORT = re.compile(r'^import (?:\{ ([^}]+) \}|(\w+)) from "\./([\w./]+)";(?: *//.*)?$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
DEFAULT = re.compile(r"^export \{ (\w+) as default \};$", re.MULTILINE)
COMMENTED = re.compile(r"/\*.*?\*/", re.DOTALL)


def styles() -> str:
    return "\n".join((STATIC / name).read_text() for name in STYLES)


def script(entry: str = "app.js") -> str:
    """The text of one script that does what the module `entry` does."""
    done: dict[str, str] = {}
    _add(entry, done)
    text = "\n".join(done.values())
    assert "</script" not in text.lower(), "a script ends where it says so"
    return text


def _add(name: str, done: dict[str, str]) -> None:
    """A module after those that it imports, which are in no circle."""
    text = (STATIC / name).read_text()
    if "/" in name:  # another project's: its license stands at the beginning, and what is commented out may look like code
        head, text = text[: text.index("*/") + 2] if text.startswith("/*") else "", COMMENTED.sub("", text)
        text = f"{head}\n{text}"
    for needed in (found.group(3) for found in IMPORT.finditer(text)):
        if needed not in done:
            _add(needed, done)
    names = [f"{name}: {name}" for name in EXPORT.findall(text)] + [f"default: {name}" for name in DEFAULT.findall(text)]
    text = IMPORT.sub(_imported, DEFAULT.sub("", EXPORT.sub("", text)))
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE), f"{name}: a form of import or export that is not known"
    done[name] = f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}})();"


def _imported(found: re.Match[str]) -> str:
    names, default, module = found.groups()
    return f"const {{ {names or f'default: {default}'} }} = {_variable(module)};"


def _variable(module: str) -> str:
    return "of_" + re.sub(r"\W", "_", module)
