"""Builds the documentation site: python docs/build.py (needs the docs extra).

The changelog's page is made from CHANGELOG.md, then Zensical builds in its strict mode, then every link of the built pages is
followed. A warning or a broken link ends it with status 1.
"""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]


def changelog(text: str) -> str:
    """The changelog as a page of docs/, where links to docs/ lose their folder."""
    return text.replace("](docs/", "](")


class Page(HTMLParser):
    """The anchors of a built page, and where its links and pictures point."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


def broken_links(site: Path) -> Iterator[str]:
    """Links of a built site to a page, file or anchor that is not there, and pictures, styles and scripts from elsewhere."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            file = file / "index.html" if file.is_dir() else file
            missing = not file.exists() or (url.fragment and file in pages and unquote(url.fragment) not in pages[file].anchors)
            if missing:
                yield f"{path.relative_to(site)}: {target}"


def build(root: Path) -> list[str]:
    """Build the site of a checkout into its site/; returns what is wrong with it."""
    (root / "docs/changelog.md").write_text(changelog((root / "CHANGELOG.md").read_text()))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode or "warning" in done.stdout.lower():
        return [done.stdout]
    return list(broken_links(root / "site"))


if __name__ == "__main__":
    wrong = build(ROOT)
    print("\n".join(wrong) if wrong else f"{ROOT / 'site'}/index.html")
    sys.exit(1 if wrong else 0)
