"""Whatever a reward does, the images of the next one are as they were, and a run neither hangs nor ends as if it were done."""

import asyncio
import datetime
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from vgrpo import Config, Prompt
from vgrpo.rewards.base import RewardError, judge_images, score_images
from vgrpo.rewards.registry import load_reward

NUM = 4
IMAGES = torch.rand(NUM, 3, 4, 4, generator=torch.Generator().manual_seed(0))
MEANS = IMAGES.mean((1, 2, 3))


def prompts(count=NUM):
    return [Prompt(text=str(index), metadata={"tag": "x", "include": [{"count": 1}]}) for index in range(count)]


def raising(error):
    def reward(images, prompts):
        raise error

    return reward


class Odd:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")


class PyO3Panic(BaseException):
    """What a library in Rust raises."""


ERRORS = [
    *(ValueError("v"), TypeError("t"), KeyError("k"), RuntimeError("r"), OSError("o"), ZeroDivisionError("z")),
    *(AssertionError("a"), MemoryError("m"), RecursionError("deep"), StopIteration("s"), NotImplementedError("n")),
    *(SystemExit(0), SystemExit("bye"), GeneratorExit("g"), PyO3Panic("p"), asyncio.CancelledError("c"), UnicodeError("u")),
    *(torch.OutOfMemoryError("full"), TimeoutError("late"), ConnectionError("gone"), EOFError("end"), Exception("line\nline")),
]
ANSWERS = {
    "None": None,
    "text": "0.5",
    "a number": 0.5,
    "true": True,
    "a mapping": {"score": [0.5] * NUM},
    "a set": {0.5},
    "a generator": (value for value in [0.5] * NUM),
    "a date": datetime.date(2024, 5, 1),
    "an object": Odd(),
    "texts": ["0.5"] * NUM,
    "Nones": [None] * NUM,
    "a None among numbers": [0.5, None, 0.5, 0.5],
    "objects": [Odd()] * NUM,
    "lists of other lengths": [[1.0], [1.0, 2.0]],
    "too few": torch.rand(NUM - 1),
    "too many": torch.rand(NUM + 1),
    "none at all": torch.rand(0),
    "an empty list": [],
    "a scalar": torch.tensor(0.5),
    "a column": torch.rand(NUM, 1),
    "a row": torch.rand(1, NUM),
    "a matrix": torch.rand(NUM, NUM),
    "images": IMAGES,
    "complex": torch.rand(NUM, dtype=torch.complex64),
    "booleans": torch.ones(NUM, dtype=torch.bool),
    "booleans of numpy": np.ones(NUM, dtype=bool),
    "texts of numpy": np.array(["a"] * NUM),
    "objects of numpy": np.array([None] * NUM),
    "dates of numpy": np.array(["2024-05-01"] * NUM, dtype="datetime64[D]"),
    "too few of numpy": np.zeros(NUM - 1),
    "nowhere": torch.rand(NUM, device="meta"),
    "sparse": torch.eye(NUM).to_sparse(),
    "huge integers": [10**400] * NUM,
}
GOOD = {
    "float32": MEANS,
    "float64": MEANS.double(),
    "bfloat16": torch.full((NUM,), 0.5, dtype=torch.bfloat16),
    "integers": torch.arange(NUM),
    "a list": [0.5] * NUM,
    "a tuple": (0.5,) * NUM,
    "a list of tensors": list(MEANS),
    "numpy": np.full(NUM, 0.5),
    "requiring a gradient": torch.rand(NUM, requires_grad=True),
    "with a graph": torch.rand(NUM, requires_grad=True) * 2,
    "not contiguous": torch.rand(NUM, 2)[:, 0],
}
NOT_FINITE = {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "too large for fp32": 1e300}


def returning(answer):
    return lambda images, prompts: answer


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("timeout", [None, 20.0])
def test_whatever_is_raised_is_a_failed_reward(error, timeout):
    with pytest.raises(RewardError, match=f"failed on every image, last with {type(error).__name__}") as caught:
        score_images(raising(error), IMAGES, prompts(), timeout=timeout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_ctrl_c_is_nobody_elses(timeout):
    with pytest.raises(KeyboardInterrupt):
        score_images(raising(KeyboardInterrupt()), IMAGES, prompts(), timeout=timeout)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_not_one_number_per_image_is_refused(answer):
    with pytest.raises(
        RewardError, match=rf"the reward returned .*it must return \[{NUM}\], one real number per image"
    ) as caught:
        score_images(returning(answer), IMAGES, prompts())
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:coroutine")
def test_an_asynchronous_reward_is_refused():
    async def reward(images, prompts):
        return MEANS

    with pytest.raises(RewardError, match="returned a coroutine"):
        score_images(reward, IMAGES, prompts())


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD)
def test_one_number_per_image_is_taken_as_fp32_on_the_cpu_without_a_graph(answer):
    values = score_images(returning(answer), IMAGES, prompts())
    assert (values.dtype, values.device.type, values.requires_grad) == (torch.float32, "cpu", False)
    assert values.tolist() == pytest.approx([float(torch.as_tensor(value).detach()) for value in answer], rel=1e-5)


@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE)
def test_what_is_not_finite_is_no_score(value):
    values = score_images(returning([0.5, value, 0.5, 0.5]), IMAGES, prompts())
    assert values.isnan().tolist() == [False, True, False, False]
    scores = judge_images(returning([0.5, value, 0.5, 0.5]), IMAGES, [Prompt(text="the same")] * NUM)
    assert scores.failed.tolist() == [False, True, False, False]
    if math.isnan(value):  # of all images of a prompt: the reward abstains
        scores = judge_images(returning([value] * NUM), IMAGES, prompts())
        assert scores.values.isnan().all()
        assert not scores.failed.any()
    else:
        with pytest.raises(RewardError, match="NaN or infinite on every image"):
            score_images(returning([value] * NUM), IMAGES, prompts())


def test_a_reward_with_a_rule_fails_where_it_should_have_judged():
    class Ruled:
        def judges(self, prompt):
            return prompt.text != "none of mine"

        def __call__(self, images, prompts):
            return [math.nan] * len(prompts)

    given = [Prompt(text=text) for text in ("none of mine", "mine", "none of mine", "mine")]
    assert judge_images(Ruled(), IMAGES, given).failed.tolist() == [False, True, False, True]
    with pytest.raises(RewardError, match="on every image"):
        judge_images(Ruled(), IMAGES[:1], [Prompt(text="mine")])


def spoil_images(images, prompts):
    images.zero_()


def spoil_one_pixel(images, prompts):
    images[0, 0, 0, 0] = 7


def spoil_as_numpy(images, prompts):
    images.numpy()[:] = 0


def spoil_data(images, prompts):
    images.data.add_(1)


def ask_for_gradients(images, prompts):
    images.requires_grad_(True)


def shuffle_prompts(images, prompts):
    prompts.reverse()


def empty_prompts(images, prompts):
    prompts.clear()


def change_metadata(images, prompts):
    prompts[0].metadata["tag"] = "y"


def change_inner_metadata(images, prompts):
    prompts[0].metadata["include"][0]["count"] = 9


@pytest.mark.parametrize(
    "spoil",
    [
        *(spoil_images, spoil_one_pixel, spoil_as_numpy, spoil_data, ask_for_gradients),
        *(shuffle_prompts, empty_prompts, change_metadata, change_inner_metadata),
    ],
)
def test_a_reward_cannot_change_what_the_next_one_judges(spoil):
    def reward(images, prompts):
        spoil(images, prompts)
        return torch.arange(len(images))

    images, given = IMAGES.clone(), prompts()
    assert score_images(reward, images, given).tolist() == [0, 1, 2, 3]
    assert torch.equal(images, IMAGES)
    assert not images.requires_grad
    assert given == prompts()


@pytest.mark.parametrize("bad", [{0}, {255}, {100}, {3, 200}])
def test_a_bad_image_is_found_by_halving(bad):
    calls = []

    def reward(images, prompts):
        calls.append(len(images))
        if bad & {int(prompt.text) for prompt in prompts}:
            raise KeyError("bad")
        return images.mean((1, 2, 3))

    notes = []
    images = torch.rand(256, 3, 2, 2)
    values = score_images(reward, images, prompts(256), notice=notes.append)
    assert {index for index, value in enumerate(values) if value.isnan()} == bad
    good = [index for index in range(256) if index not in bad]
    assert torch.allclose(values[good], images.mean((1, 2, 3))[good])
    assert len(calls) <= 1 + 2 * 8 * len(bad)
    assert notes == ["reward reward failed on some images, which get no score: KeyError: 'bad'"]


def test_a_reward_that_always_fails_is_not_asked_about_every_image():
    calls = []

    def reward(images, prompts):
        calls.append(len(images))
        raise OSError("no model")

    with pytest.raises(RewardError, match="OSError: no model"):
        score_images(reward, torch.rand(512, 3, 2, 2), prompts(512))
    assert len(calls) == 63


def test_a_batch_that_fits_no_memory_is_halved():
    def reward(images, prompts):
        if len(images) > 2:
            raise torch.OutOfMemoryError("full")
        return images.mean((1, 2, 3))

    notices = []
    values = score_images(reward, IMAGES, prompts(), notice=notices.append)
    assert torch.equal(values, MEANS)
    assert notices == []  # no image is without a score


def hangs(images, prompts):
    time.sleep(60)


def test_a_reward_that_hangs_has_failed():
    begin = time.monotonic()
    with pytest.raises(RewardError, match=r"last with no answer within 0\.2 s"):
        score_images(hangs, IMAGES, prompts(), timeout=0.2)
    assert time.monotonic() - begin < 10


def test_one_that_hangs_on_an_image_costs_the_others_nothing():
    def reward(images, prompts):
        if len(images) > 1:
            raise ValueError("one at a time")
        if prompts[0].text == "2":
            time.sleep(60)
        return images.mean((1, 2, 3))

    notes = []
    values = score_images(reward, IMAGES, prompts(), timeout=3.0, notice=notes.append)
    assert values.isnan().tolist() == [False, False, True, False]
    assert len(notes) == 1


def test_a_reward_in_time_is_scored_as_without_a_limit():
    for grads in (True, False):
        with torch.set_grad_enabled(grads):
            values = score_images(
                lambda images, _: torch.full((NUM,), float(torch.is_grad_enabled())), IMAGES, prompts(), timeout=9
            )
        assert values.tolist() == [float(grads)] * NUM


HANGING = """
import time, torch
from vgrpo import Prompt
from vgrpo.rewards.base import RewardError, score_images
try:
    score_images(lambda images, prompts: time.sleep(600), torch.rand(1, 3, 2, 2), [Prompt(text="a")], timeout=0.1)
except RewardError:
    print("given up", flush=True)
"""


def test_a_hung_reward_keeps_no_process_from_its_end():
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "given up\n"


def test_a_file_that_ends_the_process_is_no_reward(tmp_path, monkeypatch):
    (tmp_path / "my_script_that_exits.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"its file ends the process when imported \(SystemExit: 0\)"):
        load_reward("my_script_that_exits:reward")


def test_reasons_tell_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "abcdef123456")
    with pytest.raises(RewardError) as caught:
        score_images(raising(OSError("http://me:pw@host/?token=s3cret said abcdef123456")), IMAGES, prompts())
    assert "http://***@host/?token=*** said ***" in str(caught.value)


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="reward_timeout="):
        Config(reward_timeout=timeout)


def small(most, sizes):
    """A reward that takes so many images at once, and notes how many it was given."""

    def reward(images, prompts):
        sizes.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError(f"no memory for {len(images)} images")
        return images.mean((1, 2, 3))

    return reward


def test_a_reward_that_cannot_take_many_images_gets_few_after_the_second_time():
    sizes, notices, images = [], [], torch.rand(16, 3, 4, 4)
    reward = small(5, sizes)
    for turn in range(3):
        values = score_images(reward, images, [Prompt(text="a")] * 16, notice=notices.append)
        assert torch.equal(values, images.mean((1, 2, 3)))
        halved = [16, 8, 8, 4, 4, 4, 4]
        assert sizes == (halved if turn < 2 else [4, 4, 4, 4])
        sizes.clear()
    assert notices == ["reward reward: it failed on 16 images at once and judged them in parts; it gets at most 4 from now on"]


def test_an_image_that_a_reward_fails_on_makes_no_smaller_calls():
    sizes, images = [], torch.rand(8, 3, 4, 4)

    def picky(own, prompts):
        sizes.append(len(own))
        if (own == images[3]).all((1, 2, 3)).any():
            raise KeyError("the fourth")
        return own.mean((1, 2, 3))

    for _ in range(3):
        sizes.clear()
        values = score_images(picky, images, [Prompt(text=str(n)) for n in range(8)], notice=lambda text: None)
        assert sizes[0] == 8
        assert values.isnan().tolist() == [index == 3 for index in range(8)]


def test_a_reward_that_cannot_be_remembered_is_asked_all_the_same():
    class Odd:
        __hash__ = None

        def __call__(self, images, prompts):
            if len(images) > 2:
                raise MemoryError
            return images.mean((1, 2, 3))

    images, odd = torch.rand(4, 3, 4, 4), Odd()
    for _ in range(3):
        assert torch.equal(score_images(odd, images, [Prompt(text="a")] * 4), images.mean((1, 2, 3)))
