"""The cache of compiled engines: one is made once, checked by its content, opened and not compiled again."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import daemon.engines.cache
from daemon.engines.cache import MANIFEST, prepare_engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.process import child_environment
from storage.records import Judged
from tests.conftest import REPOSITORY
from tests.support.models import SMALL, untrained_model
from tests.support.workers import drawn_images, judge, make_workers
from trainer.model.identity import default_weights, weights_sha256
from trainer.model.probes import probes

LOGGER = logging.getLogger("test")
_PREPARE = """
import logging, sys
from pathlib import Path
from daemon.engines.cache import prepare_engine
logging.basicConfig(level=logging.INFO, format="%(message)s")
print(prepare_engine(Path(sys.argv[1]), "cpu", "fp32", Path(sys.argv[2]), logging.getLogger())[0].kind)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learnt nothing."""
    return untrained_model(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


@pytest.fixture(scope="module")
def made(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedEngine:
    """An engine that nobody has opened before the first test does."""
    cache = tmp_path_factory.mktemp("cache")
    prepared, _ = prepare_engine(weights, "cpu", "fp32", cache, LOGGER)
    assert prepared.kind == "openvino"
    return prepared


def _files(folder: str) -> dict[str, tuple[int, int]]:
    """Every file of an engine with its inode and time of change."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.defects(15)
def test_lanes_open_what_was_compiled_and_compile_nothing(made: PreparedEngine, tmp_path: Path) -> None:
    before = _files(made.folder)
    tasks = drawn_images(tmp_path / "images")

    with make_workers(made, count=2) as lanes:
        judge(lanes, tasks)
        restarts = lanes.restarts

    assert any(name.endswith(".blob") for name in before)
    assert _files(made.folder) == before
    assert restarts == 0


@pytest.mark.slow
@pytest.mark.defects(15)
def test_of_two_daemons_that_start_at_once_one_makes_the_engine(weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PREPARE, str(weights), str(tmp_path / "cache")]
    started = [
        subprocess.Popen(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]

    told = [process.communicate(timeout=120) for process in started]

    assert [output for output, _ in told] == ["openvino\n"] * 2
    waited, made = sorted((errors.splitlines() for _, errors in told), key=len)
    assert waited == ["waiting for another process that is preparing the engine"]
    assert made[0] == "preparing the engine for this machine, once: some seconds"
    assert re.fullmatch(r"the engine is ready after \d+\.\d s", made[1])


@pytest.mark.defects(15)
def test_the_lock_lasts_while_the_process_that_makes_the_engine_does(tmp_path: Path) -> None:
    """A daemon killed while it waits for its engine must not let the next one disturb the making of it."""
    folder = tmp_path / "engines" / "x"
    with daemon.engines.cache._alone(folder, LOGGER) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=lock)
    try:
        taken = subprocess.run(["flock", "-n", folder.with_suffix(".lock"), "true"], check=False).returncode
    finally:
        child.kill()
        child.wait()
    free = subprocess.run(["flock", "-n", folder.with_suffix(".lock"), "true"], check=False).returncode

    assert (taken, free) == (1, 0)


@pytest.mark.slow
@pytest.mark.defects(24)
def test_a_flipped_byte_anywhere_in_an_engine_is_noticed_and_told_in_one_line(
    made: PreparedEngine, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(made.folder)
    noticed = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        path.chmod(0o600)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        noticed.append(daemon.engines.cache._read_manifest(folder, weights) is None)
        if path.suffix != ".blob":  # that one stays damaged
            path.write_bytes(whole)

    again, _ = prepare_engine(weights, "cpu", "fp32", folder.parent.parent, LOGGER)

    assert noticed == [True] * 4  # network, its weights, the compiled form, the manifest
    assert again.folder == made.folder
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == f"the compiled engine in {folder} is damaged: it is made again"
    assert daemon.engines.cache._read_manifest(folder, weights) is not None


@pytest.mark.defects(24)
def test_a_manifest_that_was_changed_by_hand_is_not_believed(made: PreparedEngine, weights: Path) -> None:
    manifest = Path(made.folder) / MANIFEST
    whole = manifest.read_text()
    stored = json.loads(whole)
    other = stored["spec"].replace('"threshold": 0.5', '"threshold": 0.9')
    assert other != stored["spec"]

    manifest.write_text(json.dumps(stored | {"spec": other}))
    found = daemon.engines.cache._read_manifest(Path(made.folder), weights)
    manifest.write_text(whole)

    assert found is None
    assert daemon.engines.cache._read_manifest(Path(made.folder), weights) is not None


def test_an_engine_that_was_moved_is_made_again(made: PreparedEngine, weights: Path) -> None:
    """Its compiled forms are found by the path they were made under only."""
    elsewhere = Path(made.folder).with_name("elsewhere")
    shutil.copytree(made.folder, elsewhere)

    assert daemon.engines.cache._read_manifest(elsewhere, weights) is None


def test_what_a_killed_process_left_half_made_is_made_whole(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "engines" / daemon.engines.cache._key(weights_sha256(weights), "fp32")
    folder.mkdir(parents=True)
    for name in ("model.xml", "left"):
        (folder / name).write_text("half")

    prepared, _ = prepare_engine(weights, "cpu", "fp32", tmp_path, LOGGER)

    assert prepared.folder == str(folder)
    assert (folder / "model.xml").read_text() != "half"
    assert not (folder / "left").exists()


@pytest.mark.slow
@pytest.mark.defects(16)
def test_making_the_shipped_models_engine_takes_little_memory_and_no_torch(tmp_path: Path) -> None:
    script = (
        "import re, sys; from pathlib import Path; from daemon.engines.build_openvino import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert 'torch' not in sys.modules\n"
        # Not ru_maxrss: that begins with what the process that started this one had.
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024 // 10**6)"
    )
    arguments = [str(default_weights()), str(tmp_path / "engine"), "fp32"]

    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY, env=child_environment(), text=True, capture_output=True, check=True, timeout=150,
    )  # fmt: skip

    assert int(done.stdout) < 400


def test_where_nothing_can_be_kept_every_process_compiles_for_itself(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that cannot be written to (here: a file is in its way) stops nothing."""
    (tmp_path / "engines").write_text("")

    prepared, spec = prepare_engine(weights, "cpu", "auto", tmp_path, LOGGER)

    assert (prepared.kind, prepared.precision, prepared.network) == ("openvino", "fp32", None)
    assert spec == SMALL
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.endswith("every worker compiles it for itself")
    with make_workers(prepared) as workers:
        outcomes = judge(workers, drawn_images(tmp_path / "images"))
    assert all(isinstance(one.result, Judged) for one in outcomes)


def test_an_engine_for_drawing_is_there_at_once(weights: Path, tmp_path: Path) -> None:
    prepared = daemon.engines.cache.engine_for_drawing(weights, weights_sha256(weights), tmp_path)

    said = open_engine(prepared).run(probes(64)[:2])

    assert prepared.kind == "openvino"
    assert said.maps.shape == (2, 2, 4, 4)
    assert not list(tmp_path.iterdir())
