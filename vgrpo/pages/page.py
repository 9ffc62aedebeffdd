"""What the HTML pages share: one file each that opens offline."""

import html
import os
import secrets
from pathlib import Path

from vgrpo.support.secrets import redact

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: #223; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } .lead { color: #667; margin-top: .2rem }
table { border-collapse: collapse } td, th { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #e3e5ee }
td:first-child, th:first-child { text-align: left }
.pairs { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem 1.4rem } .pairs p { grid-column: 1 / 3; margin: .7rem 0 0 }
.pairs img { width: 100%; max-height: 22rem; object-fit: contain; object-position: left }
.up { color: #187a3a } .down { color: #b3261e }
"""


def shown(text: str) -> str:
    """A text as HTML, without secrets."""
    return html.escape(redact(text))


def write_page(path: Path, title: str, body: list[str]) -> Path:
    """The parts of the body are HTML, the title is text."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{shown(title)}</title><style>{STYLE}</style>"
    return write_html(path, head + "".join(body))


def write_html(path: Path, text: str) -> Path:
    """The file takes the place of whatever has its name, also of a link, which is not followed."""
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a folder; move it away, the page goes there")
    draft = path.with_name(f".draft-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")  # a name that no link waits under
    try:
        with draft.open("x", encoding="utf-8", errors="xmlcharrefreplace") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path
