"""Workers report to the GUI thread, stop when asked, and never raise."""

import gc
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_skinseg.errors import BadInput
from napari_skinseg.events import raise_if_cancelled
from napari_skinseg.plugin.background import Background, LatestJob


@pytest.fixture
def background(qtbot):
    background = Background()
    yield background
    background.close()
    QApplication.processEvents()


def until_cancelled(report, cancel):
    report("at work")
    cancel.wait(60)
    raise_if_cancelled(cancel)


def test_reports_and_outcome_arrive_on_the_gui_thread_in_order(qtbot, background):
    came = []

    def work(report, cancel):
        assert threading.current_thread() is not threading.main_thread()
        report(1)
        report(2)
        return 3

    def take(item):
        came.append((item, threading.current_thread() is threading.main_thread()))

    background.start("work", work, lambda outcome: take(outcome.result), take)
    qtbot.waitUntil(lambda: len(came) == 3, timeout=60_000)
    assert came == [(1, True), (2, True), (3, True)]
    assert not background.is_busy


def test_a_cancelled_job_ends_as_cancelled(qtbot, background):
    ends, reports = [], []
    job = background.start("work", until_cancelled, ends.append, reports.append)
    qtbot.waitUntil(lambda: bool(reports), timeout=60_000)
    job.cancel()
    qtbot.waitUntil(lambda: bool(ends), timeout=60_000)
    assert [end.state for end in ends] == ["cancelled"]


def test_what_work_raises_is_an_outcome_not_a_traceback(qtbot, background, capsys):
    ends = []

    def work(report, cancel):
        raise BadInput("arm is no photo; choose another.")

    background.start("work", work, ends.append)
    qtbot.waitUntil(lambda: bool(ends), timeout=60_000)
    assert ends[0].state == "failed"
    assert str(ends[0].error) == "arm is no photo; choose another."
    assert "Traceback" not in capsys.readouterr().err


def test_close_waits_until_the_threads_are_left_and_delivers_nothing(qtbot, background):
    ends, reports = [], []
    job = background.start("work", until_cancelled, ends.append, reports.append)
    qtbot.waitUntil(lambda: bool(reports), timeout=60_000)
    background.close()
    assert job.wait(0)
    QApplication.processEvents()
    assert ends == []


def test_napari_stops_a_job_when_its_window_closes(qtbot, make_napari_viewer):
    viewer = make_napari_viewer()
    background = Background()
    reports = []
    job = background.start("segmenting arm", until_cancelled, lambda outcome: None, reports.append)
    qtbot.waitUntil(lambda: bool(reports), timeout=60_000)
    viewer.close()
    assert job.wait(60)


def test_jobs_that_overlap_leave_the_warnings_of_the_process_as_they_are(qtbot, background):
    before, ends = (warnings.showwarning, list(warnings.filters)), []
    first_ends, second_ends = threading.Event(), threading.Event()
    for event in (first_ends, second_ends):
        reports = []
        background.start(
            "work", lambda report, cancel, event=event: (report(1), event.wait(60)), ends.append, reports.append
        )
        qtbot.waitUntil(lambda reports=reports: bool(reports), timeout=60_000)
    for number, event in enumerate((first_ends, second_ends), 1):
        event.set()
        qtbot.waitUntil(lambda number=number: len(ends) == number, timeout=60_000)
    assert (warnings.showwarning, list(warnings.filters)) == before


def test_jobs_that_ended_are_freed_with_their_data_while_the_window_stays_open(qtbot, make_napari_viewer):
    make_napari_viewer()  # napari keeps an entry for each job until its window closes
    background, data, parts, ends = Background(), [], [], []
    all_started = threading.Event()

    def keep_the_interpreter_busy():  # so that some threads end before the call that starts them returns
        end = time.monotonic() + 60
        while not all_started.is_set() and time.monotonic() < end:
            pass

    threading.Thread(target=keep_the_interpreter_busy, daemon=True).start()
    for _ in range(50):
        photo = np.zeros((10, 10))
        job = background.start("segmenting arm", lambda report, cancel, photo=photo: photo.sum(), ends.append)
        data.append(weakref.ref(photo))
        parts += [weakref.ref(one) for one in (job, job._worker, job._call)]
    all_started.set()
    qtbot.waitUntil(lambda: len(ends) == 50, timeout=60_000)
    del photo, job

    def are_freed(references) -> bool:
        gc.collect()
        return not any(reference() is not None for reference in references)

    qtbot.waitUntil(lambda: are_freed(data), timeout=60_000)
    background.close()
    qtbot.waitUntil(lambda: are_freed(parts), timeout=60_000)


def test_of_many_requests_only_the_newest_waits(qtbot, background):
    done, free = [], threading.Event()

    def first(report, cancel):
        free.wait(60)
        return 0

    latest = LatestJob(background, "work", lambda outcome: done.append(outcome.result))
    latest.request(first)
    for number in range(1, 6):
        latest.request(lambda report, cancel, number=number: number)
    free.set()
    qtbot.waitUntil(lambda: not background.is_busy, timeout=60_000)
    assert done == [0, 5]
