"""A server that answers as the Hugging Face hub does, with folders for repositories."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    repositories: dict[str, Path]
    gated = ("gated/model",)
    asked: list[str]

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        words = urlsplit(self.path).path.strip("/").removeprefix("api/models/").split("/")
        name, what = "/".join(words[:2]), words[2:]
        if name in self.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif name not in self.repositories:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif what[:1] == ["resolve"]:
            self._file(self.repositories[name], "/".join(what[2:]))
        else:
            self._listing(name, tree=what[:1] == ["tree"])

    def _file(self, folder, path):
        if not (folder / path).is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        if self.command == "GET":
            self.asked.append(path)
        content = (folder / path).read_bytes()
        self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _listing(self, name, *, tree):
        folder = self.repositories[name]
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [str(path.relative_to(folder)) for path in files]
        if tree:
            value = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
                for name, path in zip(names, files, strict=True)
            ]
        else:
            value = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status, content, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(repositories, cache, monkeypatch):
    """The hub, with an empty cache; yields the files that were asked for so far."""
    handler = type("Handler", (Hub,), {"repositories": repositories, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    use_hub(url, cache, monkeypatch)
    try:
        yield handler.asked
    finally:
        server.shutdown()
        server.server_close()


def use_hub(url, cache, monkeypatch):
    """What HF_ENDPOINT and HF_HUB_CACHE do, which are read at import only."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hf_api.api, "endpoint", url)
