"""How many frames a video has, from every command that draws one."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import pipelines
from helpers.tiny import red, tiny_config
from PIL import Image

from vgrpo import Prompt, train
from vgrpo.analysis.plan.job import measure_job
from vgrpo.commands.main import main
from vgrpo.core.images import to_pil
from vgrpo.core.processes import ALONE
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.rewards.frames import show_to
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.training.curriculum.score_table import ScoreTable
from vgrpo.training.rollouts.starting import connected_workers
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.settings.stages import Curriculum, Stage

SIDE, LENGTH = 32, 24
OPTIONS = f"--resolution {SIDE} --max-sequence-length {LENGTH}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "wan"
    pipelines.wan().save_pretrained(folder)
    (folder.parent / "prompts.txt").write_text("a red heart\n")
    return folder


def config_of(folder, path, num_frames):
    rollout = RolloutConfig(num_prompts=1, group_size=2, num_steps=2)
    settings = {"resolution": SIDE, "max_sequence_length": LENGTH, "num_frames": num_frames, "rollout": rollout}
    return tiny_config(path, model=str(folder), num_iterations=1, **settings)


def test_a_run_trains_on_so_many_frames(folder, tmp_path):
    shapes = []

    def reward(images, prompts):
        shapes.append(tuple(images.shape[1:]))
        return red(images, prompts)

    pipeline, drawn = load_pipeline(str(folder)), []
    decode = pipeline.vae.decode

    def decoded(latents, **options):
        drawn.append(latents.shape[2])
        return decode(latents, **options)

    pipeline.vae.decode = decoded
    train(config_of(folder, tmp_path / "run", 9), pipeline=pipeline, reward=reward, prompts=["a red heart"], quiet=True)
    assert set(drawn) == {3}
    assert set(shapes) == {(3, SIDE, SIDE)}
    assert "num_frames: 9" in (tmp_path / "run/config.yaml").read_text()


MOTION_FILE = """
def motion(videos, prompts):
    return videos.diff(dim=1).abs().mean((1, 2, 3, 4))

motion.judges_videos = True
"""


class Motion:
    """Pays for frames that differ, and remembers what it saw."""

    judges_videos = True

    def __init__(self):
        self.shapes = set()

    def __call__(self, videos, prompts):
        self.shapes.add(tuple(videos.shape[1:]))
        return videos.diff(dim=1).abs().mean((1, 2, 3, 4))


def test_a_reward_of_videos_sees_all_frames_and_one_of_images_the_final(folder, tmp_path):
    reward, config = Motion(), config_of(folder, tmp_path / "run", 5)
    train(replace(config, monitor=("jpeg_compressibility",)), reward=reward, prompts=["a red heart"], quiet=True)
    assert reward.shapes == {(5, 3, SIDE, SIDE)}
    assert Image.open(tmp_path / "run/samples/000001/00.png").size[1] == SIDE
    assert "monitor/jpeg_compressibility" in (tmp_path / "run/metrics.jsonl").read_text()


def test_a_curriculums_scores_are_of_all_frames_where_a_reward_judges_videos(folder, tmp_path, monkeypatch):
    (tmp_path / "motion_file.py").write_text(MOTION_FILE)
    monkeypatch.chdir(tmp_path)
    evaluation = EvalConfig(num_prompts=1, num_images=1, num_steps=2)
    config = replace(config_of(folder, None, 5), eval=evaluation, eval_prompts=f"{folder.parent}/prompts.txt")
    config = replace(config, prompts=f"{folder.parent}/prompts.txt", reward=("motion_file:motion",))
    curriculum = Curriculum(stages=(Stage("one", config),), output_dir=tmp_path)
    table = ScoreTable(curriculum, tmp_path, load_pipeline(str(folder)), ALONE)
    table.add("base")
    assert table.rows[0]["scores"]["base"] > 0


def test_workers_are_refused_where_a_reward_judges_videos(folder):
    policy = make_policy(load_pipeline(str(folder)), max_sequence_length=LENGTH, resolution=SIDE, num_frames=5)
    show_to([red, Motion()], policy)
    with pytest.raises(ValueError, match="judges videos, and workers send the final frames alone"):
        connected_workers(policy, ["http://127.0.0.1:9"], print)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_sampled_pictures_are_the_final_of_so_many_frames(folder, tmp_path, num_frames):
    line = (
        f"sample --model {folder} --prompts {folder.parent}/prompts.txt --num-images 1 --num-steps 2 --solver euler {OPTIONS}"
    )
    line += " --precision fp32 --guidance 1 --shift 1"
    assert main([*line.split(), "--num-frames", str(num_frames), "--output-dir", str(tmp_path / "out")]) == 0
    policy = make_policy(load_pipeline(str(folder)), max_sequence_length=LENGTH, resolution=SIDE, num_frames=num_frames)
    assert policy.latent_shape[1] == (num_frames + 3) // 4
    noise = named_noise(policy, 0, "sample", 0, 0)[None]
    with torch.no_grad():
        _, images = draw_images(policy, [Prompt(text="a red heart")], noise, Sampling(solver="euler", num_steps=2))
    assert Image.open(tmp_path / "out/00000_00.png").tobytes() == to_pil(images[0]).tobytes()


def test_an_evaluation_is_of_one_number_of_frames(folder, tmp_path, capsys):
    line = f"eval --model {folder} --prompts {folder.parent}/prompts.txt --reward jpeg_compressibility {OPTIONS}"
    line += f" --output-dir {tmp_path} --eval.num-prompts 1 --eval.num-images 1 --eval.num-steps 2"
    assert main([*line.split(), "--num-frames", "5"]) == 0
    assert [Image.open(path).size for path in tmp_path.glob("images/base/*.png")] == [(SIDE, SIDE)]
    assert json.loads((tmp_path / "scores/base.json").read_text())["num_frames"] == 5
    assert main([*line.split(), "--num-frames", "9"]) == 1
    assert "num_frames" in capsys.readouterr().err


def test_a_plan_counts_the_frames(folder, tmp_path):
    jobs = [measure_job(config_of(folder, tmp_path, num_frames)) for num_frames in (5, 9, 17)]  # 2, 3 and 5 latent frames
    assert {job.decoding.image for job in jobs} == {(3, SIDE, SIDE)}
    assert jobs[0].decoding.bytes < jobs[1].decoding.bytes < jobs[2].decoding.bytes
    two, three, five = (job.plain.forward_flops for job in jobs)
    assert five - three > 2 * (three - two) > 0  # attention grows faster than the frames
    assert measure_job(config_of(folder, tmp_path, None)).plain == jobs[2].plain
