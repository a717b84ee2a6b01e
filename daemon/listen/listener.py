"""Run the listener: open the port, receive until a signal, finish what is coming in."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable

from pynetdicom import AE, _config, evt

from config.errors import BtError
from config.text import printable
from daemon.listen.association import PDU_BYTES
from daemon.listen.contexts import accepted_contexts
from daemon.listen.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from daemon.listen.intake import Intake
from daemon.listen.listening import Listening
from daemon.listen.receiver import Receiver
from daemon.listen.server import ListenServer
from trainer.images.silence import silence_loggers

# How long a caller may take to ask for an association, and how long one may say nothing.
_REQUEST_SECONDS = 30.0
_IDLE_SECONDS = 300.0
# How long objects that are coming in may still take when the listener is to stop; then how long the callers
# may take to notice.
_FINISH_SECONDS = 5.0
_LEAVE_SECONDS = 1.0
_STOPPING = {signal.SIGTERM, signal.SIGINT}


def listen(wanted: Listening, log: logging.Logger) -> int:
    """Receive until SIGTERM or SIGINT and return the exit code; raises UsageError and BtError at the start.

    For a process of its own: it silences the libraries, whose words quote what is sent.
    """
    _silence(log)
    intake = Intake(wanted.inbox, max_bytes=wanted.max_bytes, min_free=wanted.min_free)
    if removed := intake.remove_leftovers():
        log.info("removed %d half-written files of a listener that was killed", removed)
    receiver = Receiver(wanted.title, wanted.callers, intake, wanted.max_associations, log)
    server = _server(wanted, receiver)
    # Signals are waited for, not handled: no thread is interrupted by them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOPPING, signal.SIGHUP})
    serving = threading.Thread(target=server.serve_forever, name="listen", daemon=True)
    serving.start()
    log.info("%s", _told(wanted, server.server_address))
    stopped = _wait(serving, log)
    _stop(server, receiver)
    return 0 if stopped else 1


def _silence(log: logging.Logger) -> None:
    _config.LOG_HANDLER_LEVEL = "none"
    silence_loggers("pynetdicom", "pydicom")
    warnings.simplefilter("ignore")

    def tell(failure: threading.ExceptHookArgs) -> None:
        log.warning("an association broke off (%s)", failure.exc_type.__name__)

    threading.excepthook = tell


def _server(wanted: Listening, receiver: Receiver) -> ListenServer:
    entity = AE(ae_title=wanted.title)
    entity.maximum_pdu_size = PDU_BYTES
    entity.acse_timeout = _REQUEST_SECONDS
    entity.network_timeout = _IDLE_SECONDS
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    handlers = [
        (evt.EVT_REQUESTED, receiver.decide),
        (evt.EVT_ACCEPTED, receiver.accepted),
        (evt.EVT_C_ECHO, receiver.echo),
        (evt.EVT_C_STORE, receiver.store),
    ]
    try:
        return ListenServer(
            receiver,
            ae=entity,
            address=wanted.address,
            ae_title=wanted.title,
            contexts=accepted_contexts(any_modality=wanted.any_modality),
            ssl_context=wanted.tls,
            evt_handlers=handlers,
        )
    except OSError as error:
        raise BtError(
            f"cannot listen on {wanted.address[0]} port {wanted.address[1]} ({error.strerror})",
            hint="give another --port; 0 takes a free one",
        ) from None


def _told(wanted: Listening, place: tuple[str, int] | tuple[str, int, int, int]) -> str:
    tls = "without TLS"
    if wanted.tls is not None:
        tls = "with TLS" + (" and certificates of the callers" if wanted.asks_for_certificates else "")
    who = f"{len(wanted.callers.entries)} allowed callers" if wanted.callers.entries else "any caller"
    where = printable(str(wanted.inbox))
    return f"listening on {place[0]} port {place[1]} as {wanted.title}, {tls}, for {who}, into {where}"


def _wait(serving: threading.Thread, log: logging.Logger) -> bool:
    """Return True at a signal to stop, False if the thread that accepts connections ended by itself."""
    while serving.is_alive():
        found = signal.sigtimedwait({*_STOPPING, signal.SIGHUP}, 1.0)
        if found is not None and found.si_signo in _STOPPING:
            # A second one ends the process at once.
            for number in _STOPPING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
            log.info("stopping: objects that are coming in are finished")
            return True
        if found is not None:
            log.info("SIGHUP: the listener goes on; options are read at its start only")
    log.error("no connections are accepted any more; start the listener again")
    return False


def _stop(server: ListenServer, receiver: Receiver) -> None:
    receiver.stopping = True
    server.shutdown()
    for association, messages in list(server.running.items()):
        if not messages.busy:
            association.abort(block=False)
    _wait_until(lambda: not any(one.busy for one in list(server.running.values())), _FINISH_SECONDS)
    _wait_until(lambda: not server.running, _LEAVE_SECONDS)
    for association, messages in list(server.running.items()):
        association.abort(block=False)
        messages.discard()
        receiver.tell_end(association)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
