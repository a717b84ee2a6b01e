"""Compose a watching daemon from its parts, and log its start and end."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.database_url import is_server_url
from config.errors import UsageError
from config.folders import made_folder
from config.options import Invocation
from config.store_url import StoreUrl
from config.text import printable, printable_name
from daemon.clock import Clock, SystemClock
from daemon.log import set_up_log, thread_failures_told
from daemon.workers.setup import ready_engine, worker_setup
from trainer.model.foreign_network import NEVER_REJECTS, WITHOUT_MAPS

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.settings import Settings
    from daemon.engines.manifest import PreparedEngine
    from daemon.inbox.inbox import InboxRules
    from daemon.inbox.watched_inbox import WatchedInbox
    from daemon.service.drift import DriftWatch
    from daemon.service.image_log import ImageLog
    from daemon.service.mover import Mover
    from daemon.service.service import Service
    from daemon.service.signals import StopSignal, Waker
    from daemon.workers.lanes import Lanes
    from storage.ledger.ledger import Ledger
    from trainer.model.spec import ModelSpec

# What belongs to a database beside its file, should it lie in an inbox.
_DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock", "-models/**", ".replaced-*", ".before-*")


def watch(
    invocation: Invocation, places: Sequence[Path | StoreUrl], *, once: bool, reclassify: bool = False
) -> int:
    """Run a daemon over the folders until it is stopped, or with `once` until all is judged; return 0."""
    from daemon.service.signals import StopSignal, Waker
    from daemon.service.systemd_notifier import SystemdNotifier

    settings = invocation.settings
    logger = set_up_log(invocation.verbosity, settings.log_format, file=settings.log_file)
    roots = checked_places(places, settings, logger)
    with ExitStack() as stack:
        stack.enter_context(thread_failures_told(logger))
        waker = Waker()
        stack.callback(waker.close)
        stop = stack.enter_context(StopSignal(waker))
        service = stack.enter_context(open_service(settings, roots, logger, waker, once=once))
        if reclassify:
            logger.info(
                "%d images are judged again with this model", service.ledger.reclassify(service.model_id)
            )
        else:
            _name_reclassify(service, logger)
        images = _show_images(stack, service, invocation, logger, once=once)
        service.watchers = [*service.watchers, _HangupNotice(stop, logger)]
        manager = SystemdNotifier.of(os.environ, os.getpid())
        if manager is not None:
            manager.is_stopping = lambda: stop.requested
            service.watchers = [*service.watchers, manager]
        began = time.monotonic()
        service.run(stop, once=once)
        images.flush()
        _say_goodbye(service, logger, time.monotonic() - began, stopped=stop.requested)
        left = service.left_behind() if once and not stop.requested else None
    if left is not None:
        raise left
    return 0


def _show_images(
    stack: ExitStack, service: Service, invocation: Invocation, logger: logging.Logger, *, once: bool
) -> ImageLog:
    """Have the log tell of images, and a terminal show how the work goes."""
    from daemon.service.image_log import ImageLog

    inboxes = {inbox.inbox_id: printable_name(inbox.root) for inbox in service.inboxes}
    images = ImageLog(logger, service.clock.monotonic, inboxes, service.weights_sha256)
    service.reporters = [*service.reporters, images]
    service.watchers = [*service.watchers, images]
    if not sys.stderr.isatty() or invocation.settings.log_format != "text":
        return images
    if once and invocation.verbosity >= 0:
        from daemon.service.progress_bar import ProgressBar

        service.watchers = [
            *service.watchers,
            stack.enter_context(ProgressBar(color=invocation.color)),
        ]
    elif not once and invocation.verbosity == 0:
        from daemon.service.last_images import LastImages

        last = stack.enter_context(LastImages(color=invocation.color))
        service.reporters, service.watchers = [*service.reporters, last], [*service.watchers, last]
    return images


def _name_reclassify(service: Service, logger: logging.Logger) -> None:
    """Say how images are judged again that only other models have judged: they are not by themselves."""
    if number := service.ledger.judged_by_others(service.model_id):
        images = "1 image" if number == 1 else f"{number} images"
        logger.info("%s judged by another model only; --reclassify judges them with this one too", images)


def checked_places(
    places: Sequence[Path | StoreUrl], settings: Settings, logger: logging.Logger
) -> list[Path | StoreUrl]:
    """Return folders as `checked_folders` does, then the object stores; refuse what cannot be watched."""
    urls = list(dict.fromkeys(place for place in places if isinstance(place, StoreUrl)))
    folders = checked_folders([place for place in places if isinstance(place, Path)])
    if urls or settings.events:
        from daemon.store.store_setup import check_stores

        check_stores(urls, settings, logger)
    return [*folders, *urls]


def checked_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the folders as absolute paths; refuse what is no folder and one inside another."""
    roots: list[Path] = []
    for folder in folders:
        shown = printable(str(folder))
        if not folder.exists():
            raise UsageError(f"no folder at {shown}", hint=f"make it (mkdir {shown}) or name another")
        if not folder.is_dir():
            raise UsageError(
                f"{shown} is not a folder", hint="to judge a single file: bt-daemon classify FILE"
            )
        if folder.resolve() not in roots:
            roots.append(folder.resolve())
    for root in roots:
        for other in roots:
            if root != other and root.is_relative_to(other):
                raise UsageError(
                    f"{printable(str(root))} lies inside {printable(str(other))}",
                    hint="name the outer folder only; subfolders are watched too",
                )
    return roots


@contextmanager
def open_service(
    settings: Settings, roots: Sequence[Path | StoreUrl], logger: logging.Logger, waker: Waker, *, once: bool
) -> Iterator[Service]:
    """Open everything a watching daemon needs, yield it ready to run, close it in the reverse order."""
    from daemon.inbox.series_pattern import path_reader
    from daemon.service.open_lanes import open_lanes
    from daemon.service.server_address import check_address

    _check_moves(settings)
    if settings.notify or settings.notify_when or settings.ping:
        from daemon.notify.receivers import check_notify

        check_notify(settings)
    path_reader(settings.series)
    check_address(settings.db, logger)
    # Before anything that takes long: a folder that cannot be is one line.
    heatmaps = str(made_folder(Path(settings.heatmaps), "--heatmaps")) if settings.heatmaps else ""
    # First of all, so that they import on the other cores while this process opens the rest.
    with open_lanes(settings, roots, logger) as workers:
        prepared, spec = ready_engine(settings, logger)
        if heatmaps and not spec.has_maps:
            raise UsageError(f"no heatmaps can be drawn: {WITHOUT_MAPS}", hint="leave --heatmaps out")
        workers.begin(
            replace(worker_setup(settings, prepared), heatmaps=heatmaps)
        )  # they open their engines while this process imports the storage
        start = _Start(settings, roots, logger, waker, once)
        with _service_on(workers, prepared, spec, start) as service, _notifying(start, spec):
            yield service


@dataclass(frozen=True, slots=True)
class _Start:
    """What a daemon is started with."""

    settings: Settings
    roots: Sequence[Path | StoreUrl]
    logger: logging.Logger
    waker: Waker
    once: bool


@contextmanager
def _service_on(
    workers: Lanes, prepared: PreparedEngine, spec: ModelSpec, start: _Start
) -> Iterator[Service]:
    from daemon.model_store import keep_model
    from daemon.service.heartbeat_writer import HeartbeatWriter
    from daemon.service.open_ledger import model_record, open_ledger
    from daemon.service.service import Service
    from daemon.workers.messages import Known
    from storage.database import stand_in
    from storage.lock import daemon_lock

    settings, logger = start.settings, start.logger
    path = stand_in(settings.db)
    clock = SystemClock()
    with ExitStack() as stack:
        lock = stack.enter_context(daemon_lock(settings.db))
        ledger, connection = stack.enter_context(open_ledger(settings, once=start.once))
        stack.callback(workers.close)  # they read the database: only the last to close it folds its log in
        model_id = ledger.model_id(model_record(prepared, spec))
        keep_model(Path(prepared.weights), prepared.weights_sha256, path, logger)
        with ledger.transaction():
            secret = ledger.series.secret()
        # What a server knows is not asked for: it would cost each worker a session, to spare an inference.
        known_in = "" if is_server_url(settings.db) else str(path)
        workers.remember(Known(known_in, model_id, secret))
        inboxes = [stack.enter_context(_inbox(root, start, ledger, path, clock)) for root in start.roots]
        drift = _drift(connection, prepared, spec, logger)
        beat = HeartbeatWriter(connection, prepared, spec, clock.now_us(), lock, drift=drift)
        service = Service(ledger, inboxes, workers, model_id, start.waker, clock, logger)
        service.check_database, service.weights_sha256 = lock.check, prepared.weights_sha256
        if settings.on_done == "move" or settings.quarantine_dir:
            service.mover = _mover(settings, ledger, inboxes, clock, logger)
        for inbox in inboxes:
            inbox.start()
        service.reporters = [beat, drift]
        service.watchers = [beat, _Announcement(logger, prepared, spec, once=start.once)]
        yield service
        beat.store(service, stopped=True)  # not after an exception: then `status` says that it died


def _notifying(start: _Start, spec: ModelSpec) -> AbstractContextManager[object]:
    if not start.settings.notify and not start.settings.ping:
        return nullcontext()
    from daemon.notify.notifier import notifying

    return notifying(start.settings, spec.classes, start.logger)


def _drift(
    connection: sa.Connection, prepared: PreparedEngine, spec: ModelSpec, logger: logging.Logger
) -> DriftWatch:
    """Return what compares images with those the model was made for; it goes on where the last daemon was."""
    from daemon.service.drift import DriftWatch
    from storage.ledger.heartbeat import latest_heartbeat

    watch = DriftWatch(spec, prepared.weights_sha256, logger)
    if (before := latest_heartbeat(connection)) is not None:
        watch.remember(before.snapshot.get("drift"))
    return watch


def _mover(
    settings: Settings, ledger: Ledger, inboxes: Sequence[WatchedInbox], clock: Clock, logger: logging.Logger
) -> Mover:
    """Return what moves finished files; its first turn moves what a crash left undone."""
    from daemon.service.mover import Mover

    roots = {inbox.inbox_id: inbox.root for inbox in inboxes}
    return Mover(ledger.moves, roots, settings.done_dir, settings.quarantine_dir, logger=logger, clock=clock)


def _inbox(
    root: Path | StoreUrl, start: _Start, ledger: Ledger, database: Path, clock: SystemClock
) -> WatchedInbox:
    if isinstance(root, StoreUrl):
        from daemon.store.store_setup import StoreWorld, store_inbox

        world = StoreWorld(ledger, start.waker.wake, clock, start.logger)
        return store_inbox(root, start.settings, world, once=start.once)
    from daemon.inbox.inbox import Inbox

    path = os.fsencode(root)
    rules = inbox_rules(start.settings, [root], database, once=start.once)[root]
    return Inbox(path, ledger.inbox_id(path), rules, ledger.unknown, start.waker.wake, clock, start.logger)


def inbox_rules(
    settings: Settings, roots: Sequence[Path], database: Path, *, once: bool
) -> dict[Path, InboxRules]:
    """Return what is taken of each root; the database and the folders moved to are none of it."""
    from daemon.inbox.inbox import InboxRules
    from daemon.model_store import models_folder

    aside = [
        Path(folder).resolve()
        for folder in (settings.done_dir, settings.quarantine_dir, settings.heatmaps, models_folder(database))
        if folder
    ]
    rules = {}
    for root in roots:
        own = database.resolve()
        hidden = (
            tuple(f"{own.relative_to(root)}{suffix}" for suffix in _DATABASE_SUFFIXES)
            if own.is_relative_to(root)
            else ()
        )
        rules[root] = InboxRules(
            recursive=settings.recursive,
            include=_below(root, settings.include),
            exclude=_below(root, settings.exclude) + hidden,
            settle_seconds=settings.settle_seconds,
            rescan_seconds=settings.rescan_seconds,
            deadline_seconds=settings.deadline_seconds,
            poll=settings.poll,
            done_files=settings.done_files,
            skip_folders=tuple(os.fsencode(folder) for folder in aside),
            once=once,
        )
    return rules


def _below(root: Path, globs: Sequence[str]) -> tuple[str, ...]:
    """Return globs relative to the inbox, as they are matched: one may name the inbox's own path."""
    base = str(root).rstrip("/")
    return tuple(glob.removeprefix(base) if glob.startswith(f"{base}/") else glob for glob in globs)


def _check_moves(settings: Settings) -> None:
    if settings.on_done == "move" and not settings.done_dir:
        raise UsageError("--on-done move needs a place to move to", hint="give --done-dir DIR")


class _Announcement:
    """Says once what is watched with what, as soon as images can be judged."""

    def __init__(
        self, logger: logging.Logger, prepared: PreparedEngine, spec: ModelSpec, *, once: bool
    ) -> None:
        self._logger = logger
        self._with = (
            f"model {printable(spec.name)} {prepared.weights_sha256[:8]}; "
            f"{prepared.kind} {prepared.precision} on {prepared.device}"
            + ("" if spec.has_maps else f"; not trained here: no heatmaps, {NEVER_REJECTS}")
        )
        self._once = once
        self._said = False

    def turned(self, service: Service) -> None:
        """Say it when the first worker is ready."""
        if self._said or not service.workers.ready:
            return
        self._said = True
        health = [inbox.health() for inbox in service.inboxes]
        folders = ", ".join(
            printable_name(one.root)
            + ("" if self._once or one.state == "watching" else f" ({one.state}: {one.why})")
            for one in health
        )
        self._logger.info(
            "%s %s; %s", "judging what is in" if self._once else "watching", folders, self._with
        )


class _HangupNotice:
    """Says what SIGHUP does not do, each time it comes."""

    def __init__(self, stop: StopSignal, logger: logging.Logger) -> None:
        self._stop = stop
        self._logger = logger
        self._told = 0

    def turned(self, service: Service) -> None:  # noqa: ARG002 - a watcher's signature
        """Say it in the turn after the signal, outside its handler."""
        if self._stop.hangups == self._told:
            return
        self._told = self._stop.hangups
        self._logger.info(
            "SIGHUP: going on with the same settings; to have others read: bt-daemon config check, then stop "
            "this daemon (SIGTERM) and start it again, nothing is lost"
        )


def _say_goodbye(service: Service, logger: logging.Logger, seconds: float, *, stopped: bool) -> None:
    counts = service.ledger.counts()
    done = service.counters.judged + service.counters.failed
    judged, errors = service.counters.judged, service.counters.failed
    parts = [f"{judged} image{'s' * (judged != 1)} judged", f"{errors} error{'s' * (errors != 1)}"]
    if done and seconds > 0:
        parts.append(f"{done / seconds:,.0f} images/s")
    if counts.pending:
        parts.append(f"{counts.pending} left for the next start")
    logger.info("%s: %s", "stopped" if stopped else "done", ", ".join(parts), extra={"event": "stopped"})
