"""Lost batches: tried again, and no file is blamed before it cost several workers alone."""

from __future__ import annotations

from daemon.remote.head.joined_worker import JoinedWorker, SentBatch
from daemon.remote.head.lost_batches import LostBatches
from daemon.workers.messages import Task
from storage.records import Failed, FailureKind


def _tasks(*numbers: int) -> list[Task]:
    return [Task(number, b"/inbox/x", 1, 1, 1) for number in numbers]


def _worker(*batches: list[Task], lanes: int = 1) -> JoinedWorker:
    worker = JoinedWorker("tcp://a:1", "a", lanes, 0.0, 0.0)
    for number, tasks in enumerate(batches):
        worker.take(SentBatch(number, tasks), 0.0)
    return worker


def test_batches_of_a_lost_worker_are_tried_again_as_they_were() -> None:
    lost = LostBatches()

    outcomes, again = lost.of(_worker(_tasks(1, 2), _tasks(3)))

    assert outcomes == []
    assert again == [_tasks(1, 2), _tasks(3)]


def test_a_batch_that_nobody_had_looked_at_is_no_suspect_however_often() -> None:
    lost = LostBatches()

    for _ in range(20):
        outcomes, again = lost.of(_worker(_tasks(99), _tasks(1, 2)))
        lost.acquit(_tasks(99))

    assert (outcomes, again[-1]) == ([], _tasks(1, 2))


def test_files_that_were_with_several_lost_workers_are_judged_alone() -> None:
    lost = LostBatches()
    for _ in range(3):
        lost.of(_worker(_tasks(1, 2)))

    outcomes, again = lost.of(_worker(_tasks(1, 2)))

    assert (outcomes, again, lost.held) == ([], [], 2)
    busy, idle = _worker(_tasks(7)), _worker()
    sent: list[tuple[JoinedWorker, list[Task]]] = []
    lost.hand_out([busy, idle], lambda *one: sent.append(one))
    assert idle.slots == 0  # it is kept free
    lost.hand_out([busy, idle], lambda *one: sent.append(one))
    assert sent == [(idle, _tasks(1))]
    assert busy.free


def test_a_file_that_costs_workers_alone_is_an_error_and_its_neighbours_are_not() -> None:
    lost = LostBatches()
    for _ in range(4):
        lost.of(_worker(_tasks(1, 2)))
    lost.acquit(_tasks(2))

    answers = [lost.of(_worker(_tasks(1)))[0] for _ in range(3)]

    assert answers[:2] == [[], []]
    ((guilty,),) = answers[2:]
    assert guilty.file_id == 1
    assert isinstance(guilty.result, Failed)
    assert guilty.result.kind is FailureKind.PERMANENT
    assert guilty.result.reason == "the worker that judged it was lost, 4 times with others and 3 alone"


def test_what_waits_to_be_judged_alone_can_be_given_to_others() -> None:
    lost = LostBatches()
    for _ in range(4):
        lost.of(_worker(_tasks(1, 2)))

    assert lost.take_all() == _tasks(1, 2)
    assert lost.held == 0


def test_a_batch_is_overdue_by_its_files_and_only_once_it_is_in_work() -> None:
    worker = _worker(_tasks(1, 2), _tasks(3))

    assert worker.deadline(10.0) == 170.0  # two files, and the worker's own patience
    worker.answered(0, 100.0)
    assert worker.deadline(10.0) == 260.0
    worker.answered(1, 200.0)
    assert worker.deadline(10.0) == float("inf")
