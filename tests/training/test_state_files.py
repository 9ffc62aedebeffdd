"""A state comes back with every bit and every type."""

import math
import pickle
import random
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vgrpo.training.checkpoints.state_files import DTYPES, Snapshot, read_state

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.sampled_from(["$tensor", "$dict", "$", "a.b", "__metadata__"])
TREES = st.recursive(
    SCALARS | st.sampled_from([torch.tensor(3.0), torch.zeros(0, 2), torch.arange(6)[::2]]),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


def round_trip(state, folder):
    snapshot = Snapshot(state)
    (folder / "a").write_bytes(b"".join(bytes(part) for part in snapshot.tensor_bytes()))
    (folder / "b").write_bytes(snapshot.json_bytes())
    return read_state(folder / "a", folder / "b")


def assert_same(one, other):
    """Equal in type and to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.equal(one.contiguous().reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for (key, value), (known, twin) in zip(one.items(), other.items(), strict=True):
            assert_same(key, known)
            assert_same(value, twin)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for value, twin in zip(one, other, strict=True):
            assert_same(value, twin)
    elif isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    else:
        assert one == other


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(KEYS, TREES))
def test_any_tree_of_plain_values_and_tensors_comes_back(tmp_path_factory, state):
    assert_same(state, round_trip(state, tmp_path_factory.getbasetemp()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back_and_the_library_reads_the_file(tmp_path, dtype):
    numbers = torch.randint(0, 2, (16 * 8,), dtype=torch.uint8) if dtype is torch.bool else torch.randint(0, 256, (128,))
    numbers = numbers.to(torch.uint8).view(dtype)
    state = {"flat": numbers, "grid": numbers[:4].view(2, 2).T, "one": numbers[0], "none": numbers[:0].view(0, 3)}
    state["byte"] = torch.tensor([7], dtype=torch.uint8)  # of another width in the same file
    assert_same(state, round_trip(state, tmp_path))
    assert set(load_file(tmp_path / "a")) == set(state)


def stepped(kind, **changes):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(64, 128)), torch.nn.Parameter(torch.randn(5))]
    optimizer = kind(parameters, lr=1e-3, **changes)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return parameters, optimizer


def eight_bit():
    return pytest.importorskip("bitsandbytes").optim.AdamW8bit


@pytest.mark.parametrize("kind", [lambda: torch.optim.AdamW, eight_bit])
def test_an_optimisers_state_comes_back_and_goes_on_alike(tmp_path, kind):
    parameters, optimizer = stepped(kind())
    state = {"optimizer": optimizer.state_dict(), "weights": [parameter.detach() for parameter in parameters]}
    loaded = round_trip(state, tmp_path)
    assert_same(state["optimizer"]["state"], loaded["optimizer"]["state"])
    assert_same(state, loaded)
    others, twin = stepped(kind())
    with torch.no_grad():
        for other, value in zip(others, loaded["weights"], strict=True):
            other.copy_(value)
    twin.load_state_dict(loaded["optimizer"])
    for mine, other in zip(parameters, others, strict=True):
        other.grad = mine.grad
    optimizer.step()
    twin.step()
    assert all(torch.equal(mine, other) for mine, other in zip(parameters, others, strict=True))
    assert_same(optimizer.state_dict()["state"], twin.state_dict()["state"])


def test_torchs_generators_and_pythons_go_on_alike(tmp_path):
    generator = torch.Generator().manual_seed(3)
    torch.randn(7, generator=generator)
    loaded = round_trip({"torch": generator.get_state(), "python": random.getstate()}, tmp_path)
    twin = torch.Generator()
    twin.set_state(loaded["torch"])
    assert torch.equal(torch.randn(5, generator=generator), torch.randn(5, generator=twin))
    assert loaded["python"] == random.getstate()


def test_a_snapshot_does_not_change_with_its_state():
    state = {"weights": torch.zeros(3), "steps": [1, 2]}
    snapshot = Snapshot(state)
    state["weights"] += 1
    state["steps"].append(3)
    assert snapshot.tensors["weights"].tolist() == [0, 0, 0]
    assert snapshot.rest["steps"] == [1, 2]


def test_names_that_look_alike_are_two_tensors(tmp_path):
    state = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 0: torch.tensor(3), "0": torch.tensor(4)}
    assert_same(state, round_trip(state, tmp_path))


class Odd(float):
    pass


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", 1j, Odd(1), torch.zeros(2, dtype=torch.complex64)])
def test_what_the_files_cannot_hold_is_refused_with_its_place(value):
    with pytest.raises(TypeError, match=r"cannot hold parts\.1\.x, a"):
        Snapshot({"parts": [0, {"x": value}]})


@pytest.mark.parametrize(
    ("tensors", "rest"),
    [
        (b"", b"{}"),
        (b"\xff" * 64, b"{}"),
        (pickle.dumps({}), b"{}"),
        (None, b'{"a": {"$tensor": "gone"}}'),
        (None, b'{"a": {"$tensor": []}}'),
        (None, b'{"$dict": [1]}'),
        (None, b'{"$dict": [[[], 1]]}'),
        (None, b'{"$tuple": 1}'),
        (None, b'{"$float": "x"}'),
        (None, b"{"),
    ],
)
def test_files_that_are_no_state_are_refused(tmp_path, tensors, rest):
    if tensors is None:
        tensors = b"".join(bytes(part) for part in Snapshot({"x": torch.zeros(2)}).tensor_bytes())
    (tmp_path / "a").write_bytes(tensors)
    (tmp_path / "b").write_bytes(rest)
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_state(tmp_path / "a", tmp_path / "b")
