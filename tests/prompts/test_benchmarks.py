"""Benchmarks' prompts, from a server in the place of their authors' repositories."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vgrpo.commands.main import main
from vgrpo.evaluation.suites import suite_prompts
from vgrpo.prompts import benchmarks
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.generators.geneval import CLASSES, article

PARTI = 'Prompt\tCategory\tNote\nbond\tAbstract\t\nA sign. The words "Fly" are on it.\tArtifacts\t\n'
NAMES = ("bench", "tv", "computer mouse")
GENEVAL = [
    {"tag": "single_object", "include": [{"class": name, "count": 1}], "prompt": f"a photo of {article(name)}"}
    for name in NAMES
]


@pytest.fixture
def served(monkeypatch):
    """What the addresses hold."""
    files = {"/evaluation_metadata.jsonl": "".join(json.dumps(row) + "\n" for row in GENEVAL), "/PartiPrompts.tsv": PARTI}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path, "").encode()
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, benchmark in benchmarks.BENCHMARKS.items():
        assert benchmark.address.startswith("https://raw.githubusercontent.com/")
        address = f"http://127.0.0.1:{server.server_port}/{benchmark.address.rpartition('/')[2]}"
        monkeypatch.setitem(benchmarks.BENCHMARKS, name, benchmark._replace(address=address))
    yield files
    server.shutdown()
    server.server_close()


def test_genevals_prompts_come_with_what_its_judge_reads(served, tmp_path, capsys):
    assert set(NAMES) <= set(CLASSES)
    path = tmp_path / "geneval-benchmark.jsonl"
    assert main(["prompts", "--kind", "geneval-benchmark", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"3 prompts in {path}: GenEval (arXiv:2310.11513), MIT licence\n"
    assert [prompt.metadata for prompt in suite_prompts("geneval", str(path), 100)] == GENEVAL


def test_partis_categories_are_tags(served, tmp_path):
    path = tmp_path / "parti.jsonl"
    assert main(["prompts", "--kind", "parti", "--output", str(path)]) == 0
    prompts = read_prompts(path)
    assert [(prompt.text, prompt.metadata["tag"]) for prompt in prompts] == [
        ("bond", "Abstract"),
        ('A sign. The words "Fly" are on it.', "Artifacts"),
    ]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"/evaluation_metadata.jsonl": ""},
            "",
            "; load it with a browser and give evaluation_metadata.jsonl",
        ),
        (
            {"/evaluation_metadata.jsonl": '{"prompt": "a cat"}\n'},
            "",
            "holds 'a cat', which is none of the benchmark's prompts",
        ),
        ({"/evaluation_metadata.jsonl": "<html>\n"}, "", "not a JSON object with a `prompt`"),
        ({}, "--num 5 --held-out", "--num, --held-out: a benchmark is taken whole"),
    ],
)
def test_what_is_no_benchmark_is_named(served, tmp_path, capsys, change, options, message):
    served.update(change)
    words = f"prompts --kind geneval-benchmark --output {tmp_path}/out.jsonl {options}"
    assert main(words.split()) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
