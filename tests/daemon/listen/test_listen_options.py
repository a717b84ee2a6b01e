"""What a listener refuses to start with, and TLS."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from daemon.cli import main
from tests.support.daemons import bt_daemon
from tests.support.dicom_objects import written
from tests.support.listeners import associated, caller, listening, proposed, send, statuses

VERIFICATION = ("1.2.840.10008.1.1", "1.2.840.10008.1.2.1")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a listener and a caller that it signed, a caller that signed itself, an encrypted key."""
    folder = tmp_path_factory.mktemp("keys")
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    own = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *own, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name in ("listener", "scanner"):
        openssl("req", *own[:3], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    openssl("rsa", "-aes128", "-passout", "pass:x", "-in", "listener.key", "-out", "encrypted.key")
    return folder


def _context(keys: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=keys / "ca.pem")
    context.check_hostname = False
    if name:
        context.load_cert_chain(keys / f"{name}.pem", keys / f"{name}.key")
    return context


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--host", "0.0.0.0"], "on 0.0.0.0 everybody in the network could send images here; say who may"),
        (["--host", "::"], "on :: everybody in the network could send images here; say who may"),
        (["--aet", "A_TITLE_THAT_IS_TOO_LONG"], "--aet: 'A_TITLE_THAT_IS_TOO_LONG' is no AE title"),
        (["--allow", "MRI1@nowhere"], "--allow: 'nowhere' is no address or network"),
        (["--min-free", "much"], "--min-free: 'much' is not a size"),
        (["--tls-ca", "x.pem"], "TLS needs a certificate of this listener"),
        (["--tls-cert", "missing.pem"], "no certificate and key can be read from missing.pem"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid is no address to listen on"),
    ],
)
def test_what_is_not_safe_or_cannot_be_meant_is_refused_in_one_line(
    inbox: Path, options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["listen", str(inbox), *options])

    said = capsys.readouterr().err
    assert code == 2
    assert line in said
    assert len(said.splitlines()) == 1


def test_a_port_in_use_and_a_folder_that_is_not_there_are_one_line(inbox: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        in_use = bt_daemon("listen", inbox, "--port", str(port))
    missing = bt_daemon("listen", tmp_path / "missing", "--port", "0")

    assert (in_use.returncode, missing.returncode) == (1, 2)
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use); give another" in in_use.stderr
    assert "(No such file or directory); name the folder that bt-daemon watches" in missing.stderr


def test_open_to_a_network_for_a_title_alone_is_said(inbox: Path) -> None:
    with (
        listening(inbox, "--host", "0.0.0.0", "--allow", "MRI1") as listener,
        associated(listener.port, caller([VERIFICATION], "MRI1")) as association,
    ):
        assert association.is_established

    assert "an AE title alone proves nothing" in listener.said()


def test_objects_come_in_over_tls_from_callers_whose_certificate_is_signed(
    inbox: Path, keys: Path, tmp_path: Path
) -> None:
    sources = tmp_path / "objects"
    sources.mkdir()
    paths = written(sources, 4)
    tls: list[str | Path] = [
        "--tls-cert",
        keys / "listener.pem",
        "--tls-key",
        keys / "listener.key",
        "--tls-ca",
        keys / "ca.pem",
    ]
    with listening(inbox, *tls) as listener:
        answers = send(listener.port, paths, tls_args=(_context(keys, "scanner"), None))
        for stranger in ("stranger", None):
            with associated(
                listener.port, caller(proposed(paths), patience=5), tls_args=(_context(keys, stranger), None)
            ) as association:
                assert not association.is_established
        with associated(listener.port, caller(proposed(paths), patience=5)) as plain:
            assert not plain.is_established

        assert statuses(answers) == [0] * len(paths)
        assert "with TLS and certificates of the callers" in listener.said()
        listener.until_it_says("a connection from 127.0.0.1 failed (SSL")


def test_a_tls_caller_that_never_shakes_hands_does_not_keep_others_away(inbox: Path, keys: Path) -> None:
    tls: list[str | Path] = ["--tls-cert", keys / "listener.pem", "--tls-key", keys / "listener.key"]
    with listening(inbox, *tls) as listener:
        silent = socket.create_connection(("127.0.0.1", listener.port))
        began = time.monotonic()
        with associated(
            listener.port, caller([VERIFICATION]), tls_args=(_context(keys, None), None)
        ) as association:
            established = association.is_established
        took = time.monotonic() - began
        silent.close()

    assert established
    assert took < 10


def test_an_encrypted_or_foreign_key_is_one_line(inbox: Path, keys: Path) -> None:
    certificate: list[str | Path] = ["--tls-cert", keys / "listener.pem"]
    encrypted = bt_daemon("listen", inbox, *certificate, "--tls-key", keys / "encrypted.key")
    foreign = bt_daemon("listen", inbox, *certificate, "--tls-key", keys / "stranger.key")

    assert "the key of --tls-key is encrypted" in encrypted.stderr
    assert "(KEY_VALUES_MISMATCH); TLS takes PEM files" in foreign.stderr
    assert [done.returncode for done in (encrypted, foreign)] == [2, 2]
    assert all(len(done.stderr.splitlines()) == 1 for done in (encrypted, foreign))
