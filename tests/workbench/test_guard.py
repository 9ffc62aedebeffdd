"""Nothing is served without the token, under another host's name, or from outside the folders of runs."""

import pytest

from vgrpo.workbench.guard import HEADERS

HOST, TOKEN = "127.0.0.1:8470", "a-token"
PATHS = ["/", "/static/app.js", "/static/index.html", "/api/runs", "/api/events", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(served, runs, path):
    client = served(runs, known=False)
    cookie = "vgrpo-8470"
    for cookies in ({}, {cookie: ""}, {cookie: "other"}, {cookie: TOKEN + "x"}, {"vgrpo-8471": TOKEN}):
        client.cookies.clear()
        client.cookies.update(cookies)
        answer = client.get(path)
        assert (answer.status_code, "vgrpo ui" in answer.text) == (403, True)
    assert client.get(f"/api/runs?token={TOKEN}").status_code == 403  # only the page's own address trades it
    assert client.get("/?token=other").status_code == 403


def test_the_token_is_traded_for_a_cookie_that_scripts_cannot_read(served, runs):
    client = served(runs, known=False)
    answer = client.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8470", "127.0.0.1", "127.0.0.1:80", "[::1]:8470", ""])
def test_another_name_of_the_host_is_refused(served, runs, host):
    assert served(runs).get("/api/runs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("path", [*PATHS[:4], "/nowhere"])
def test_every_answer_has_the_headers(served, runs, path):
    for client in (served(runs), served(runs, known=False)):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy


def test_only_the_page_may_change_something(served, runs):
    client = served(runs)
    run = next(run for run in client.get("/api/runs").json()["runs"] if run["name"] == "good")["id"]
    duel = f"/api/duels/{run}/000000/{run}/000060"
    pair = client.get(duel).json()["pairs"][0]["id"]
    own = {"origin": f"http://{HOST}", "content-type": "application/json"}
    for change in ({"origin": "http://evil.example"}, {"origin": "null"}, {"content-type": "text/plain"}):
        assert client.post(f"{duel}/{pair}", content='{"choice": "left"}', headers=own | change).status_code == 403
    assert not (runs / "comparisons.jsonl").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/api/runs/..",
        "/api/runs/good",
        "/api/runs/{run}/samples/..%2f..%2f",
        "/api/runs/{run}/samples/999999",
        "/api/runs/{run}/samples/000000/99/0",
        "/api/runs/{run}/samples/000000/0/4",
        "/api/runs/{run}/samples/000000/-1/0",
        "/api/runs/{run}/groups/999999/sheet",
        "/api/runs/{run}/config.yaml",
    ],
)
def test_no_way_leads_out(served, runs, path):
    client = served(runs)
    run = client.get("/api/runs").json()["runs"][0]["id"]
    assert client.get(path.format(run=run)).status_code == 404


def test_cookies_of_other_servers_on_this_machine_do_no_harm(served, runs):
    """A browser sends a cookie to every port of a host, whatever another server put into it."""
    others = 'state={"a": [1, 2]}; =; odd; name="half'
    client = served(runs, known=False)
    for cookies in (f"{others}; vgrpo-8470={TOKEN}", f"vgrpo-8470={TOKEN}; {others}"):
        assert client.get("/api/runs", headers={"cookie": cookies}).status_code == 200
    assert client.get("/api/runs", headers={"cookie": others}).status_code == 403
