"""Pieces over workers that are lost, come back or hang: each is done, and its answer stands in its place."""

import threading
import time

import pytest

from vgrpo.support import dealing
from vgrpo.support.dealing import Dealer


@pytest.fixture
def dealer(monkeypatch):
    monkeypatch.setattr(dealing, "TICK", 0.01)
    said = []
    made = Dealer(failures=(OSError,), notice=said.append, pause=0.05)
    made.said = said
    return made


def deal(dealer, pieces, workers, ask, spare, between=lambda: None):
    told = []
    running = dealer.begin(pieces, workers, ask, lambda answer, piece: told.append(answer))
    dealer.last = running
    answers = running.finished(spare, between)
    assert told == answers
    return answers


def never(piece):
    raise AssertionError(f"the caller did piece {piece}")


def test_every_worker_takes_part_and_the_answers_are_in_order(dealer):
    both = threading.Barrier(2, timeout=10)

    def ask(worker, piece):
        if piece < 2:
            both.wait()  # so each worker has one of the first two
        return worker, piece

    answers = deal(dealer, range(6), ["a", "b"], ask, never)
    assert [piece for _, piece in answers] == list(range(6))
    assert {worker for worker, _ in answers} == {"a", "b"}
    assert (dealer.last.num_again, dealer.last.num_spare, dealer.said) == (0, 0, [])


def test_a_lost_workers_piece_is_done_by_another_and_it_is_asked_again_later(dealer):
    lost, began = threading.Event(), time.monotonic()

    def ask(worker, piece):
        if worker == "a" and not lost.is_set():
            lost.set()
            raise ConnectionResetError("gone")
        assert lost.wait(10)
        time.sleep(0.02)  # long enough for the other to come back
        return worker

    answers = deal(dealer, range(12), ["a", "b"], ask, never)
    assert set(answers) == {"a", "b"}
    assert dealer.last.num_again == 1
    assert dealer.said == ["a is lost (gone); its work is done by others", "a is back"]
    assert time.monotonic() - began < 5


def test_the_caller_does_what_no_worker_can(dealer):
    def refuse(worker, piece):
        raise ConnectionRefusedError("nobody listens")

    assert deal(dealer, range(5), ["a", "b"], refuse, lambda piece: -piece) == [0, -1, -2, -3, -4]
    assert dealer.last.num_spare == 5
    assert deal(dealer, [7], [], refuse, lambda piece: piece) == [7]
    assert len(dealer.said) == 2  # once for each, not for every try


def test_a_worker_that_hangs_is_not_waited_for(dealer, monkeypatch):
    monkeypatch.setattr(dealer, "is_late", lambda seconds: seconds > 0.1, raising=False)
    release, asked = threading.Event(), []

    def ask(worker, piece):
        asked.append(worker)
        if worker == "a":
            release.wait(20)
        return worker

    assert deal(dealer, range(3), ["a", "b"], ask, never) == ["b"] * 3
    assert dealer.hanging == {"a"}
    assert deal(dealer, range(2), ["a"], ask, lambda piece: "own") == ["own"] * 2
    assert asked.count("a") == 1  # it owes its first answer still
    release.set()
    while dealer.hanging:
        time.sleep(0.01)
    assert deal(dealer, range(2), ["a"], ask, never) == ["a"] * 2


def test_where_the_only_worker_hangs_the_caller_does_all(dealer, monkeypatch):
    monkeypatch.setattr(dealer, "is_late", lambda seconds: seconds > 0.1, raising=False)
    release = threading.Event()
    assert deal(dealer, range(3), ["a"], lambda *_: release.wait(20), lambda piece: piece) == [0, 1, 2]
    release.set()


def test_another_error_ends_the_deal(dealer):
    def ask(worker, piece):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        deal(dealer, range(3), ["a"], ask, never)


def test_the_caller_can_stop(dealer):
    release = threading.Event()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deal(dealer, range(3), ["a"], lambda *_: release.wait(20), never, stop)
    release.set()


def test_nothing_is_late_before_there_was_an_answer(dealer):
    assert not dealer.is_late(100.0)
    dealer.keep("a", 1.0)
    assert dealer.is_late(9.0)
    assert not dealer.is_late(7.0)


def test_one_slow_answer_is_forgotten(dealer):
    dealer.keep("a", 100.0)
    assert not dealer.is_late(200.0)
    for _ in range(16):
        dealer.keep("a", 1.0)
    assert dealer.is_late(9.0)


def test_a_deal_goes_on_beside_the_caller_and_its_answers_come_in_order(dealer):
    first, told = threading.Event(), []

    def ask(worker, piece):
        if piece == 0:
            first.wait(10)  # the answers of the others have to wait for this one
        return piece

    running = dealer.begin(range(4), ["a", "b"], ask, lambda answer, piece: told.append(answer))
    while len(running.answers) < 3:
        time.sleep(0.01)
    assert told == []
    first.set()
    while len(told) < 4:  # nobody has asked for the answers yet
        time.sleep(0.01)
    assert told == [0, 1, 2, 3] == running.finished(never)
