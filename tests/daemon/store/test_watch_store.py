"""The daemon on a bucket: real workers, a real database, a server of S3 and SQS beside it."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from config.store_url import parse_store_url
from daemon.service.compose import checked_places, open_service
from daemon.service.service import Service
from daemon.service.signals import Waker
from daemon.store import object_reader, sqs_queue
from storage.records import Entry, FileVersion
from tests.support.daemons import Daemon, bt_daemon, count, rows, until
from tests.support.object_store import Gate, ObjectServer, object_server, picture_bytes

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def gate(server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    yield gate
    gate.close()


@pytest.fixture
def queue(server: ObjectServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a queue that the bucket's notifications go to, as the README sets it up."""
    monkeypatch.setattr(sqs_queue, "POLL_SECONDS", 1)
    client = server.client("sqs")
    url: str = client.create_queue(QueueName=f"{bucket}-events")["QueueUrl"]
    told = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    to = {"QueueArn": told["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    server.client().put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [to]}
    )
    return url.replace(url.split("/")[2], server.url.removeprefix("http://"))


def _put(server: ObjectServer, bucket: str, number: int, key: str = "") -> None:
    key = key or f"in/{number // 10}/{number:03}.png"
    server.client().put_object(Bucket=bucket, Key=key, Body=picture_bytes(number))


@contextmanager
def _service(url: str, database: Path, *, once: bool = False, **settings: Any) -> Iterator[Service]:
    """A service that nobody runs: the test takes its steps."""
    waker = Waker()
    chosen = Settings(db=str(database), cache=os.environ["BT_CACHE"], **{"lanes": 1, **settings})
    logger = logging.getLogger("bt-daemon")
    try:
        places = checked_places([parse_store_url(url)], chosen, logger)
        with open_service(chosen, places, logger, waker, once=once) as service:
            yield service
    finally:
        waker.close()


def _step_until(service: Service, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, (service.counters, service.inboxes[0].health())
        service.step(min(service._patience() or 0.0, 0.05))


def _step_for(service: Service, seconds: float) -> None:
    end = time.monotonic() + seconds
    _step_until(service, lambda: time.monotonic() >= end)


def _one_row_each(database: Path, number: int) -> None:
    assert count(database) == number
    assert count(database, "SELECT count(DISTINCT file_id) FROM result") == number
    assert count(database, "SELECT count(*) FROM file") == number


def test_a_bucket_is_judged_to_its_last_object_and_shown_by_its_addresses(
    server: ObjectServer, bucket: str, database: Path, tmp_path: Path
) -> None:
    for number in range(3):
        _put(server, bucket, number)
    _put(server, bucket, 7, "in/x y+ü%2F#.png")
    server.client().put_object(Bucket=bucket, Key="in/notes.txt", Body=b"no image by its name")
    server.client().put_object(Bucket=bucket, Key="in/broken.png", Body=b"no image")
    server.client().put_object(Bucket=bucket, Key="in/folder/", Body=b"")
    url = f"s3://{bucket}/in"

    done = bt_daemon("watch", url, "--once", "--db", database, "--lanes", "1")
    again = bt_daemon("watch", url, "--once", "--db", database, "--lanes", "1")
    found = {row["file"]: row["status"] for row in rows(database)}
    shown = bt_daemon("show", f"{url}/x y+ü%2F#.png", "--db", database, "--heatmap", tmp_path / "map.png")

    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert "0 images judged" in again.stderr
    assert "1 .txt" in done.stderr
    assert set(found) == {
        *(f"{url}/0/{number:03}.png" for number in range(3)), f"{url}/x y+ü%2F#.png", f"{url}/broken.png"
    }  # fmt: skip
    assert found[f"{url}/broken.png"] == "error"
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert "ETag" in shown.stdout


@pytest.mark.slow
def test_a_backfill_that_is_killed_goes_on_where_the_ledger_stands(
    server: ObjectServer, bucket: str, database: Path, tmp_path: Path
) -> None:
    number = 240
    for one in range(number):
        _put(server, bucket, one)
    # A first start compiles the engine.
    bt_daemon("watch", f"s3://{bucket}/none", "--once", "--db", tmp_path / "none.db", "--lanes", "1")
    arguments: list[str | Path] = [f"s3://{bucket}/in", "--once", "--lanes", "1"]
    kills = 0
    for share in (0.1, 0.4, 0.7):
        daemon = Daemon(arguments, database, tmp_path / "log")
        until(lambda: count(database) > share * number or daemon.process.poll() is not None)  # noqa: B023
        kills += daemon.process.poll() is None
        daemon.kill()
    last = Daemon(arguments, database, tmp_path / "log")
    ended = last.process.wait(_PATIENCE_SECONDS)

    assert ended == 0, last.log.read_text()
    assert kills >= 2
    _one_row_each(database, number)
    assert count(database, "SELECT count(*) FROM result WHERE status = 3") == 0


def test_an_object_that_is_overwritten_is_a_new_version(
    server: ObjectServer, bucket: str, database: Path
) -> None:
    """Once before its first version was read, once after: of both there is one row for what is there."""
    _put(server, bucket, 1, "in/x.png")
    with _service(f"s3://{bucket}/in", database, relist_seconds=0.3) as service:
        service.workers.room = lambda waiting: 0  # type: ignore[method-assign]  # nobody reads yet
        _step_until(service, lambda: service._queue)
        _put(server, bucket, 2, "in/x.png")
        del service.workers.room
        _step_until(service, lambda: count(database) == 1)
        _put(server, bucket, 3, "in/x.png")
        _step_until(service, lambda: count(database) == 2)
        _step_for(service, 1.0)

    assert count(database) == 2
    with closing(sqlite3.connect(database)) as connection:
        told = [bytes(row[0]) for row in connection.execute("SELECT sha256 FROM result ORDER BY id")]
    import hashlib

    assert told == [hashlib.sha256(picture_bytes(number)).digest() for number in (2, 3)]


def test_an_object_that_is_deleted_before_it_is_read_has_no_row(
    server: ObjectServer, bucket: str, database: Path
) -> None:
    _put(server, bucket, 1, "in/x.png")
    _put(server, bucket, 2, "in/y.png")
    with _service(f"s3://{bucket}/in", database, once=True) as service:
        service.workers.room = lambda waiting: 0  # type: ignore[method-assign]  # nobody reads yet
        _step_until(service, lambda: len(service._queue) == 2)
        server.client().delete_object(Bucket=bucket, Key="in/x.png")
        del service.workers.room
        _step_until(service, service.drained)

    assert count(database) == 1


def _event(bucket: str, *keys: str) -> str:
    records = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
        for key in keys
    ]
    return json.dumps({"Records": records})


def _left_in(server: ObjectServer, queue: str) -> int:
    told = server.client("sqs").get_queue_attributes(
        QueueUrl=queue,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )
    return sum(int(number) for number in told["Attributes"].values())


@pytest.mark.slow
def test_notifications_doubled_lost_and_out_of_order_make_one_row_each(
    server: ObjectServer, bucket: str, queue: str, database: Path
) -> None:
    """The listing comes once an hour here: what is found soon was announced, what is lost is found by it."""
    sqs = server.client("sqs")
    url = f"s3://{bucket}/in"
    with _service(url, database, relist_seconds=3600, events=f"sqs:{queue}") as service:
        (inbox,) = service.inboxes
        _step_until(service, inbox.idle)
        for number in range(5):
            _put(server, bucket, number)  # S3 itself announces these
        keys = [f"in/0/{number:03}.png" for number in range(5)]
        for key in (*reversed(keys), *keys, "in/0/deleted.png"):
            sqs.send_message(QueueUrl=queue, MessageBody=_event(bucket, key, key))
        _step_until(service, lambda: count(database) == 5)
        _step_until(service, lambda: _left_in(server, queue) == 0)
        _put(server, bucket, 77, "in/0/000.png")  # written again: announced once, told of three times
        for _ in range(2):
            sqs.send_message(QueueUrl=queue, MessageBody=_event(bucket, keys[0]))
        _step_until(service, lambda: count(database) == 6)
        _step_until(service, lambda: _left_in(server, queue) == 0)
        state = inbox.health().state

        server.client().put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        _put(server, bucket, 9, "in/lost.png")
        _step_for(service, 1.5)
        before = count(database)
        inbox._due = 0.0  # type: ignore[attr-defined]  # an hour later
        _step_until(service, lambda: count(database) == 7)
        _step_for(service, 1.0)

    assert state == "watching"
    assert before == 6
    assert count(database) == count(database, "SELECT count(DISTINCT file_id) FROM result") == 7
    assert inbox.health().found_by_scan_only == 1


@pytest.mark.slow
def test_a_message_is_deleted_only_after_the_ledger_holds_what_it_names(
    server: ObjectServer, bucket: str, queue: str, database: Path
) -> None:
    from config.errors import DatabaseError

    class FullError(DatabaseError):
        transient = True

    def refuse(versions: Sequence[FileVersion]) -> list[Entry]:
        raise FullError("the disk is full")

    with _service(f"s3://{bucket}/in", database, events=f"sqs:{queue}") as service:
        _step_until(service, service.inboxes[0].idle)
        real = service.ledger.add
        service.ledger.add = refuse  # type: ignore[method-assign]
        _put(server, bucket, 1)
        _step_until(service, lambda: service._found)
        _step_for(service, 2.5)
        held = _left_in(server, queue)
        service.ledger.add = real  # type: ignore[method-assign]
        _step_until(service, lambda: count(database) == 1)
        _step_until(service, lambda: _left_in(server, queue) == 0)

    assert held == 1


def test_messages_that_are_no_notifications_stay_in_the_queue(
    server: ObjectServer, bucket: str, queue: str, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.client("sqs").send_message(QueueUrl=queue, MessageBody="hello")
    with _service(f"s3://{bucket}/in", database, events=f"sqs:{queue}") as service:
        _put(server, bucket, 1)
        _step_until(service, lambda: count(database) == 1)
        _step_until(service, lambda: _left_in(server, queue) == 1)

    assert "left in it" in caplog.text


@pytest.mark.slow
def test_a_store_that_goes_away_is_a_degraded_inbox_and_loses_nothing(
    server: ObjectServer, bucket: str, gate: Gate, database: Path
) -> None:
    for number in range(120):
        _put(server, bucket, number)
    with _service(f"s3://{bucket}/in", database, relist_seconds=0.5) as service:
        (inbox,) = service.inboxes
        _step_until(service, lambda: count(database) > 0)
        gate.shut()
        _step_until(service, lambda: inbox.health().state == "degraded")
        _step_for(service, 1.0)
        meanwhile, why = count(database), inbox.health().why
        _put(server, bucket, 120)
        gate.open()
        _step_until(service, lambda: count(database) == 121)

    assert meanwhile < 120
    assert why == "the object store cannot be reached"
    _one_row_each(database, 121)
    assert count(database, "SELECT count(*) FROM attempt") == 0
    assert count(database, "SELECT count(*) FROM result WHERE status = 3") == 0


def test_an_object_that_may_not_be_read_is_an_error_while_the_store_answers(
    bucket: str, database: Path, server: ObjectServer
) -> None:
    """The first failure is doubted, and the store asked; the second is believed."""
    from storage.records import FailureKind

    with _service(f"s3://{bucket}/in", database) as service:
        (inbox,) = service.inboxes
        _step_until(service, inbox.idle)
        first = inbox.doubts(5, FailureKind.TRANSIENT), inbox.doubts(5, FailureKind.TRANSIENT)
        _step_until(service, inbox.root_present)
        second = inbox.doubts(5, FailureKind.TRANSIENT)
        other = inbox.doubts(6, FailureKind.TRANSIENT)
        gone = inbox.doubts(7, FailureKind.GONE)

    assert (first, second, other, gone) == ((True, True), False, True, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://no-such-bucket"], "has no such bucket (404 NoSuchBucket); name another, or make it"),
        (["s3://BUCKET", "--on-done", "move", "--done-dir", "d"], "--on-done move cannot be done"),
        (["s3://BUCKET", "--quarantine-dir", "q"], "--quarantine-dir cannot be done"),
        (["s3://BUCKET", "--done-files"], "--done-files has no use"),
        (["s3://BUCKET", "s3://BUCKET/in"], "lies inside"),
        (["s3://BUCKET", "--events", "https://x"], "is no queue; write sqs:https://"),
        (["s3://BUCKET", "--events", "sqs:SERVER/123/nothing"], "the queue cannot be read"),
        (["s3://BUCKET", "s3://no-such-bucket", "--events", "sqs:SERVER/1/x"], "several are watched"),
        ([".", "--events", "sqs:SERVER/1/x"], "none is watched"),
        (["http://x/y"], "is not an address this can read"),
    ],
)
def test_what_cannot_be_watched_is_one_line_with_the_next_step(
    arguments: Sequence[str], said: str, server: ObjectServer, bucket: str, tmp_path: Path
) -> None:
    given = [one.replace("BUCKET", bucket).replace("SERVER", server.url) for one in arguments]

    done = bt_daemon("watch", *given, "--once", "--db", tmp_path / "db")

    assert done.returncode == 2
    assert said in done.stderr
    assert "\n" not in done.stderr.strip()
    assert not (tmp_path / "db").exists()


def test_commands_that_write_folders_refuse_addresses(tmp_path: Path) -> None:
    for arguments in (["listen", "s3://mri/in"], ["service", "install", "s3://mri/in", "--print"]):
        done = bt_daemon(*arguments)

        assert done.returncode == 2
        assert "object stores are for watch" in done.stderr
    assert not Path("s3:").exists()


@pytest.mark.slow
def test_an_object_that_is_overwritten_while_a_worker_reads_it_is_judged_as_it_is_then(
    server: ObjectServer, bucket: str, database: Path
) -> None:
    """Objects of some parts each, overwritten again and again while they are read."""
    padding = b"\0" * (2 * object_reader.PART_BYTES)
    with _service(f"s3://{bucket}/in", database, relist_seconds=0.2) as service:
        for number in range(6):
            body = picture_bytes(number) + padding  # a PNG ends before its last bytes
            server.client().put_object(Bucket=bucket, Key="in/x.png", Body=body)
            _step_for(service, 0.15)
        _step_until(service, lambda: service.drained() or service.inboxes[0].idle())
        _step_for(service, 3.0)

    import hashlib

    possible = {hashlib.sha256(picture_bytes(number) + padding).digest() for number in range(6)}
    with closing(sqlite3.connect(database)) as connection:
        told = [bytes(row[0]) for row in connection.execute("SELECT sha256 FROM result ORDER BY id")]
    assert told[-1] == hashlib.sha256(picture_bytes(5) + padding).digest()
    assert set(told) <= possible
    assert len(told) == len(set(told))


def test_credentials_that_nobody_knows_or_that_are_missing_are_told_in_one_line(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_server(asks_who=True) as strict:
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        unknown = bt_daemon("watch", "s3://mri/in", "--once", "--db", database)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        missing = bt_daemon("watch", "s3://mri/in", "--once", "--db", database)

    for done, why in ((unknown, "denies access (403 InvalidAccessKeyId)"), (missing, "without credentials")):
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert why in line
        assert "set AWS_ACCESS_KEY_ID" in line
    assert not database.exists()
