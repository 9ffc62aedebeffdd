"""The bytes that a plan says move in an iteration are those that two processes hand over."""

import pytest
from helpers.ranks import in_processes

from vgrpo.analysis.plan.job import measure_job
from vgrpo.analysis.plan.traffic import traffic
from vgrpo.commands.main import main
from vgrpo.recipes import RECIPES
from vgrpo.training.processes.peers import Peers


def bytes_of_an_iteration(folder):
    from scale import measure  # of benchmarks/

    return measure(Peers(), folder, 2, 1)["bytes_per_iteration"]


def test_bytes_are_those_of_two_processes(tmp_path, monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")
    planned = traffic(measure_job(RECIPES["sprites"], 2, 1))
    assert planned.gathered == planned.scattered == 0
    for moved in in_processes(2, bytes_of_an_iteration, tmp_path):
        assert moved == pytest.approx(planned.summed, rel=0.01)  # beside it go a few numbers of each image


def test_a_links_speed_is_a_name_or_a_number(capsys):
    assert main(["plan", "sprites", "--gpus", "2", "--tflops", "0.05", "--link", "0.001"]) == 0
    # 9.05 MB are summed: of two GPUs each sends as much as that.
    assert "at most 9.0 s by 0.001 GB/s in a machine" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--link", "--network"])
@pytest.mark.parametrize("value", ["fast", "0", "nan", "inf"])
def test_a_link_that_is_neither_is_refused(option, value, capsys):
    assert main(["plan", "sprites", "--gpus", "2", f"{option}={value}"]) != 0
    assert "or GB/s that each GPU sends" in " ".join(capsys.readouterr().err.split())
