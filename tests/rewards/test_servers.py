"""One reward on several servers: they share the images, and one that is lost, late, back or new costs no image its score."""

import threading
import time

import pytest
import torch
from PIL import Image

from vgrpo import Prompt
from vgrpo.core.images import open_picture
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.groups import GroupReward
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.remote import Remote
from vgrpo.rewards.served.server import RewardServer
from vgrpo.rewards.served.settings import ServeConfig
from vgrpo.rewards.served.wire import pack, unpack

IMAGES = torch.arange(48).view(16, 3, 1, 1).expand(16, 3, 4, 4) / 255
PROMPTS = [Prompt(text=str(index // 2)) for index in range(16)]
SCORES = IMAGES[:, 0, 0, 0]


class Farm:
    """Servers in this process, each with a reward of its own that counts its calls and can be told to misbehave."""

    def __init__(self, monkeypatch):
        self.servers, self.calls, self.seconds = {}, {}, {}
        self.loading = None
        monkeypatch.setattr("vgrpo.rewards.served.server.load_reward", lambda name, device: self.loading)

    def start(self, reward=None, *, name="bright", port=0):
        place = {}

        def bright(images, prompts):
            self.calls[place["port"]] += len(images)
            time.sleep(self.seconds.get(place["port"], 0.0))
            return images[:, 0, 0, 0]

        self.loading = reward or bright
        server = RewardServer(name, ServeConfig(port=port))
        place["port"] = server.server_port
        self.calls.setdefault(server.server_port, 0)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.servers[server.server_port] = server
        return server.server_port

    def stop(self, port):
        server = self.servers.pop(port)
        server.shutdown()
        server.server_close()


def url(*ports):
    return ",".join(f"http://127.0.0.1:{port}" for port in ports)


@pytest.fixture
def farm(monkeypatch):
    monkeypatch.delenv("VGRPO_TOKEN", raising=False)
    made = Farm(monkeypatch)
    yield made
    for port in list(made.servers):
        made.stop(port)


def judged(client, notes):
    """Scores of all images, two to a call."""
    return Panel.of([client]).judge(IMAGES, PROMPTS, notes.append, size=2).values[:, 0]


def test_servers_share_the_work(farm):
    first, second = farm.start(), farm.start()
    farm.seconds = {first: 0.05, second: 0.05}
    client, notes = load_reward(f"remote={url(first, second)}"), []
    began = time.perf_counter()
    assert torch.equal(judged(client, notes), SCORES)
    assert time.perf_counter() - began < 0.05 * 8 * 2
    assert sum(farm.calls.values()) == 16
    assert min(farm.calls.values()) >= 4
    assert notes == []


def test_a_server_that_is_lost_or_back_costs_no_score(farm):
    first, second = farm.start(), farm.start()
    client, notes = Remote(url(first, second), pause=0.01), []
    farm.seconds[first] = 0.05  # so that some images are left for the other
    farm.stop(second)
    assert torch.equal(judged(client, notes), SCORES)
    assert f"http://127.0.0.1:{second} is left for now: " in notes[0]
    farm.start(port=second)
    farm.stop(first)
    client.servers.servers[url(second)].rests_until = 0.0
    farm.calls[second], notes = 0, []
    assert torch.equal(judged(client, notes), SCORES)
    assert farm.calls[second] == 16
    assert f"http://127.0.0.1:{second} answers, and is used" in notes[0]


def test_a_server_that_is_started_again_costs_no_score(farm):
    port = farm.start()
    client, notes = Remote(url(port), pause=0.01, outage=20.0), []
    farm.stop(port)
    later = threading.Timer(0.3, farm.start, kwargs={"port": port})
    later.start()
    assert torch.equal(judged(client, notes), SCORES)
    later.join()
    farm.stop(port)
    client.outage = 0.1
    with pytest.raises(RewardError, match=r"not one score for 2 images, the last: .*refused"):
        judged(client, notes)


def test_a_server_that_hangs_gets_its_batch_taken(farm):
    first, second = farm.start(), farm.start()
    client = Remote(url(first, second), patience=0.1)
    judged(client, [])
    farm.seconds[first] = 5.0
    began = time.perf_counter()
    assert torch.equal(judged(client, []), SCORES)
    assert time.perf_counter() - began < 5.0


def test_a_file_of_servers_is_read_again(farm, tmp_path):
    first, second = farm.start(), farm.start()
    path = tmp_path / "servers.txt"
    path.write_text(f"# ours\n{url(first)}  # the first\n")
    client, notes = load_reward(f"remote={path}"), []
    judged(client, notes)
    path.write_text(f"{url(first)}\n{url(second)}\n")
    farm.seconds = {first: 0.03, second: 0.03}
    judged(client, notes)
    assert farm.calls[second] > 0
    path.write_text(f"{url(second)}\n")
    before = farm.calls[first]
    assert torch.equal(judged(client, notes), SCORES)
    assert farm.calls[first] == before
    path.write_text("nonsense\n")
    assert torch.equal(judged(client, notes), SCORES)
    assert "the servers stay as they were" in notes[-1]


def test_servers_must_serve_the_same(farm):
    first, other = farm.start(), farm.start(name="dark")
    with pytest.raises(ValueError, match=r"serves dark of vgrpo .*, and http://.* serves bright of vgrpo .*alike"):
        Remote(url(first, other))
    second = farm.start()
    client, notes = Remote(url(first, second), pause=0.01), []
    farm.seconds[first] = 0.05
    farm.stop(second)
    judged(client, notes)
    farm.start(name="dark", port=second)  # another one in its place
    client.servers.servers[url(second)].rests_until = 0.0
    assert torch.equal(judged(client, notes), SCORES)
    assert "it serves dark of vgrpo" in notes[-1]
    assert farm.calls[second] == 0


def test_one_server_is_enough_to_start_with(farm):
    first = farm.start()
    client, notes = Remote(url(9, first), pause=0.01), []
    assert torch.equal(judged(client, notes), SCORES)
    assert "no server answers at http://127.0.0.1:9 yet" in notes[0]
    with pytest.raises(ConnectionError, match="no reward server answers there"):
        Remote(url(9, 10))


def test_a_group_is_sent_whole(farm):
    sizes = []

    class Sizes(GroupReward):
        def score_group(self, images, prompt):
            sizes.append(len(images))
            return torch.ones(len(images))

    client = Remote(url(farm.start(Sizes())), batch_size=4)
    assert client.judges_groups
    prompts = [Prompt(text=text) for text in "aaaaaabaaaab"]
    client(IMAGES[:12], prompts)
    assert sorted(sizes) == [2, 10]


def test_source_pictures_are_sent(farm, tmp_path):
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, colour, size in zip(paths, ("red", "blue"), ((5, 3), (2, 7)), strict=True):
        Image.new("RGB", size, colour).save(path)

    def of_source(images, prompts):
        pictures = [open_picture(prompt.image) if prompt.image else None for prompt in prompts]
        return torch.tensor(
            [float(sum(picture.size) + picture.getpixel((0, 0))[0]) if picture else 0.0 for picture in pictures]
        )

    client = Remote(url(farm.start(of_source)))
    sources = (paths[0], None, paths[1], paths[0])
    scores = client(IMAGES[:4], [Prompt(text="a", image=source) for source in sources])
    assert scores.tolist() == [8 + 255, 0, 9, 8 + 255]


def test_source_pictures_that_are_none_are_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "one.png")
    body = pack(IMAGES[:1], [Prompt(text="a", image=tmp_path / "one.png")])
    assert unpack(body, folder=tmp_path)[1][0].image == tmp_path / "0.png"
    for old, new in {
        b'"source.0"': b'"source.1"',
        b'"shape":[3,2,2]': b'"shape":[2,3,2]',
        b'\\"source\\": 0': b'\\"source\\": 1',
        b'"data_offsets":[48,60]': b'"data_offsets":[47,60]',
    }.items():
        assert old in body
        with pytest.raises(ValueError, match=r"source|bytes of pixels"):
            unpack(body.replace(old, new), folder=tmp_path)
    with pytest.raises(ValueError, match="no place"):
        unpack(body)
