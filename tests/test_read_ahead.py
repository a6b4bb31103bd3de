import threading
import time

import pytest

from napari_skinseg.errors import Cancelled
from napari_skinseg.read_ahead import in_batches, read_ahead


def test_results_come_in_the_order_of_the_items():
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * 10

    assert [(item, future.result()) for item, future in read_ahead(slow_first, range(20))] == [
        (number, number * 10) for number in range(20)
    ]


def test_an_error_belongs_to_its_item_and_the_others_go_on():
    found = {item: future.exception() is None for item, future in read_ahead(lambda number: 1 / number, [1, 0, 2])}
    assert found == {1: True, 0: False, 2: True}


def test_no_more_items_are_begun_than_the_limit_allows():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    for used, _ in enumerate(read_ahead(lambda number: number, items(), ahead=5), start=1):
        assert len(taken) <= used + 5


def test_fewer_large_results_wait_than_small_ones():
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    most_waiting = max(
        len(taken) - used
        for used, _ in enumerate(read_ahead(lambda number: number, items(), ahead=30, pixels=lambda _: 40_000_000), 1)
    )
    assert most_waiting <= 4


def test_cancelling_raises_and_begins_nothing_more():
    cancel, begun = threading.Event(), []

    def cancel_at_four():
        for item, _ in read_ahead(begun.append, range(1000), ahead=3, cancel=cancel):
            if item == 4:
                cancel.set()

    with pytest.raises(Cancelled):
        cancel_at_four()
    assert len(begun) < 12


def test_stages_chain_and_the_generator_between_them_runs_in_the_calling_thread():
    threads = set()

    def network():
        for _, future in read_ahead(lambda number: number + 1, range(10), ahead=4):
            threads.add(threading.get_ident())
            yield future.result()

    written = [future.result() for _, future in read_ahead(lambda number: number * 2, network(), ahead=4)]
    assert written == [2 * (number + 1) for number in range(10)]
    assert threads == {threading.get_ident()}


def test_batches_are_bounded_by_number_and_by_pixels():
    assert list(in_batches([1, 1, 1, 5, 9, 1], 2, lambda size: size, 6)) == [[1, 1], [1, 5], [9], [1]]
