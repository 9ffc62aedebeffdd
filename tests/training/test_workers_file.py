"""Rollout workers that join and leave a run by the file that names them."""

import threading
import time
from pathlib import Path

import pytest
from helpers.tiny import tiny_pipeline
from helpers.workers import address, require_same, run, worker, worker_process

from vgrpo.commands.main import main
from vgrpo.core.types import Prompt
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.sampling.served.wire import likeness, pack_weights
from vgrpo.sampling.settings import Sampling
from vgrpo.training.rollouts.addresses import Addresses
from vgrpo.training.rollouts.workers import Drawn, Named, RolloutWorkers


def said_by(addresses):
    said = []
    return addresses.now(said.append), said


def test_workers_join_and_leave_a_run_that_goes_on(tmp_path):
    alone = run(tmp_path / "alone")
    names = tmp_path / "workers.txt"
    (first, one), (second, two) = worker_process(), worker_process()
    names.write_text(f"{one}\n")
    strange = tiny_pipeline()
    strange.transformer.proj_out.weight.data[0, 0] += 1

    def during(iteration):
        if iteration == 0:
            names.write_text(f"{address(unlike)}\nb:8200\n{one}\n{two}\n")
        if iteration == 1:  # what is left out may end
            names.write_text(f"# at noon\nb:8200\n{two}\n")
            first.kill()
            for thread in threading.enumerate():  # its answer may come after those of the others
                if thread.name == f"vgrpo asks {address(unlike)}":
                    thread.join(60)

    try:
        with worker(strange) as unlike:
            found = run(tmp_path / "run", [f"@{names}"], during)
    finally:
        for process in (first, second):
            process.kill()
    require_same(found, alone)
    assert [line["rollout/own"] for line in found.lines] == [0, 0, 0]  # so the second drew the last alone
    told = [text for text in found.said if "workers.txt" in text or "rollout worker" in text]
    assert f"rollout worker {two} is new, by {names}" in told
    assert f"rollout worker {one} is not asked any more, by {names}" in told
    assert not any(f"{one} is lost" in text for text in told)
    assert len([text for text in told if "line 2: 'b:8200' must begin with http://" in text]) == 1
    assert any(f"{address(unlike)} is lost (its network is" in text for text in told)


def test_a_worker_that_comes_back_is_compared_again():
    policy, lora = make_policy(tiny_pipeline(), max_sequence_length=0), LoraConfig(rank=4, alpha=8)
    add_lora(policy, lora, 0)
    with worker() as server:
        workers = RolloutWorkers([address(server)], likeness(policy))
        workers.compare(lambda text: None)
        server.likeness["network"] = "another"  # as if it had been started again with it
        workers.dealer.pause = 0.01
        draw, asked = server.draw, []

        def broken_once(order):
            asked.append(order)
            return draw(order) if len(asked) > 1 else {}["lost"]

        server.draw = broken_once
        spare = Drawn(*(policy.latent_shape,) * 2)
        named, sampling = Named((0, "x"), [Prompt(text="a key")], [(0, 0, 0)]), Sampling(num_steps=1, shift=1.0, guidance=1.0)
        weights = pack_weights(trainable(policy.module), lora)
        for _ in range(2):
            deal = workers.begin([named], weights, sampling, policy.latent_shape, lambda drawn, piece: None)
            assert deal.finished(lambda piece: spare) == [spare]
            time.sleep(5 * workers.dealer.pause)  # so that it is asked first in the next deal
    assert len(asked) == 1


def test_a_file_is_read_when_it_changes_and_stands_while_it_cannot_be_read(tmp_path):
    names = tmp_path / "workers.txt"
    names.write_text("\nhttp://a:8200/\n  http://b:8200\n# http://c:8200\nhttp://a:8200\nhttp://x:y@z\n")
    addresses = Addresses([f"@{names}", "http://b:8200", "http://d:8200"])
    before = ["http://a:8200", "http://b:8200", "http://d:8200"]
    found, said = said_by(addresses)
    assert found == before
    (problem,) = said
    assert "line 6: an address with a password" in problem
    names.unlink()
    found, said = said_by(addresses)
    assert (found, "no such file" in said[0]) == (before, True)
    names.write_bytes(b"http://e:8200\n\xff\n")
    found, said = said_by(addresses)
    assert (found, "line 2: byte 14 is not UTF-8" in said[0]) == (before, True)
    names.write_text("http://e:8200\n")
    assert said_by(addresses)[0] == ["http://e:8200", "http://b:8200", "http://d:8200"]
    assert said_by(addresses)[1] == []
    names.write_text("")
    assert said_by(addresses)[0] == ["http://b:8200", "http://d:8200"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file; write one with an address a line"),
        ("# nobody yet\n", "is empty; write an address a line, such as http://HOST:8200"),
        ("a:8200\n", "line 1: 'a:8200' must begin with http:// or https://"),
    ],
)
def test_a_file_that_names_nobody_at_the_start_is_refused(content, reason, tmp_path, capsys):
    names = Path(tmp_path / "workers.txt")
    if content is not None:
        names.write_text(content)
    words = ["--output-dir", str(tmp_path / "run"), "--rollout-workers", f"@{names}"]
    assert main(["train", "sprites", *words]) == 1
    assert f"--rollout-workers @{names}" in (said := capsys.readouterr().err)
    assert reason in said
    assert not (tmp_path / "run").exists()
