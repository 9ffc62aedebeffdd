"""The package's papers agree with it, and `import vgrpo` stays cheap."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

import vgrpo

ROOT = Path(__file__).parents[2]


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == vgrpo.__version__
    assert re.search(
        rf"^## {re.escape(vgrpo.__version__)} - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


def test_one_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_import_is_cheap():
    code = "import sys, vgrpo; print(vgrpo.__version__, *{'torch', 'diffusers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [vgrpo.__version__]
