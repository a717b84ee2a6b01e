"""Networks that were not trained here judge files in a folder, by what their description says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from watchdog.events import FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from tests.daemon.foreign.test_onnx_wire import HOSTILE
from tests.support.daemons import bt_daemon, rows
from tests.support.onnx_files import (
    SIDE,
    colour_network,
    description,
    external,
    graph,
    model,
    node,
    port,
    tensor,
)
from tests.support.pictures import head

pytestmark = pytest.mark.slow

# To choose a precision 252 heads are drawn, which takes longer than all else with so small a network: for
# what does not ask how fast the processor is.
FP32 = ("--precision", "fp32")
_SHARES = {"red": (200, 20, 10), "green": (30, 180, 40), "blue": (0, 60, 255)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in _SHARES.items():
        Image.new("RGB", (40, 30), colour).save(folder / f"{name}.png")
    return folder


def _given(tmp_path: Path, network: bytes, **changes: str) -> tuple[str | Path, ...]:
    (tmp_path / "net.onnx").write_bytes(network)
    told = description(tmp_path / "net.toml", **changes)
    return ("--weights", tmp_path / "net.onnx", "--spec", told, "--cache", tmp_path / "cache")


def _classes(photos: Path, *given: str | Path) -> dict[str, tuple[str, float]]:
    done = bt_daemon("classify", photos, "--format", "json", *given)
    assert done.returncode == 0, done.stderr
    return {Path(one["file"]).stem: (one["class"], one["score"]) for one in json.loads(done.stdout)}


def _expected(colour: tuple[int, int, int]) -> float:
    grown = np.exp(np.array(colour) / 255 * 8)
    return float(grown.max() / grown.sum())


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ({}, {}),
        ({"end": "Softmax"}, {"output": 'gives = "softmax"'}),
        ({"batch": 1}, {}),
        ({"nhwc": True}, {"input": f'size = {SIDE}\nlayout = "NHWC"'}),
        ({}, {"input": f"size = {SIDE}\nfit = 'stretch'\nname = 'image'", "output": "name = 'answer'"}),
        ({}, {"input": f"size = {SIDE}\nscale = 1.0\nstd = 255"}),
    ],
    ids=["logits", "softmax", "one at a time", "NHWC", "named", "scaled"],
)
def test_it_says_what_the_network_says(
    network: dict[str, object], changes: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    given = _given(tmp_path, colour_network(**network), **changes)  # type: ignore[arg-type]

    found = _classes(photos, *given, *FP32)

    for name, colour in _SHARES.items():
        assert found[name][0] == name
        assert found[name][1] == pytest.approx(_expected(colour), abs=1e-4)


def test_the_order_of_colours_is_the_descriptions(photos: Path, tmp_path: Path) -> None:
    given = _given(tmp_path, colour_network(), input=f'size = {SIDE}\ncolours = "BGR"')

    found = _classes(photos, *given, *FP32)

    assert {name: label for name, (label, _) in found.items()} == {
        "red": "blue", "green": "green", "blue": "red"
    }  # fmt: skip


def test_one_number_tells_two_classes_apart(photos: Path, tmp_path: Path) -> None:
    redness = np.array([[8, -4, -4]], dtype=np.float32)
    changes = {"top": 'classes = ["other", "red"]', "decision": 'positive = "red"\nthreshold = 0.7'}

    sigmoid = colour_network(end="Sigmoid", weight=redness)
    share = _classes(photos, *_given(tmp_path, sigmoid, output='gives = "sigmoid"', **changes), *FP32)
    logit = _classes(photos, *_given(tmp_path, colour_network(weight=redness), **changes), *FP32)

    exactly = 1 / (1 + np.exp(-(8 * 200 - 4 * 20 - 4 * 10) / 255))
    for found in (share, logit):
        assert found["red"][0] == "red"
        assert found["red"][1] == pytest.approx(exactly, abs=1e-4)
        assert [found[name][0] for name in ("green", "blue")] == ["other", "other"]


def test_a_daemon_stores_rows_of_it_and_everything_finds_the_model_again(
    photos: Path, tmp_path: Path
) -> None:
    given = _given(tmp_path, colour_network())
    database = tmp_path / "results.db"

    watched = bt_daemon("watch", photos, "--once", "--db", database, *given)
    again = bt_daemon("watch", photos, "--once", "--db", database, *given)
    (tmp_path / "net.onnx").unlink()
    shown = bt_daemon("show", photos / "red.png", "--db", database)
    drawn = bt_daemon("show", photos / "red.png", "--heatmap", tmp_path / "red.jpg", "--db", database)
    report = bt_daemon("report", "-o", tmp_path / "report.html", "--db", database)
    status = bt_daemon("status", "--json", "--db", database)

    assert watched.returncode == 0, watched.stderr
    assert "not trained here: no heatmaps, nothing is rejected" in watched.stderr
    assert {Path(row["file"]).stem: row["class"] for row in rows(database)} == {
        name: name for name in _SHARES
    }
    assert "0 images judged" in again.stderr
    assert "by          net 1 " in shown.stdout
    assert (drawn.returncode, "gives no class-activation maps" in drawn.stderr) == (1, True)
    assert not (tmp_path / "red.jpg").exists()
    page = (tmp_path / "report.html").read_text()
    assert report.returncode == 0
    assert "No heatmap: its network was not trained here" in page
    assert "nothing is rejected as unlike the images it was made for" in page
    assert "data:image/webp" in page
    assert json.loads(status.stdout)["model"]["name"] == "net"


def test_a_changed_description_is_another_model(photos: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    for threshold in ("0.5", "0.6", "0.5"):
        given = _given(tmp_path, colour_network(), decision=f'positive = "red"\nthreshold = {threshold}')
        done = bt_daemon("watch", photos, "--once", "--reclassify", "--db", database, *given, *FP32)
        assert done.returncode == 0, done.stderr

    models = sorted(one.name for one in database.with_name("results.db-models").iterdir())
    assert len(models) == 2
    assert len({row["weights_sha256"] for row in rows(database)}) == 2
    assert len(list((tmp_path / "cache" / "foreign").glob("*.safetensors"))) == 2


def test_a_grey_network_gets_pictures_whose_greys_are_not_stretched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((20, 20), 51, np.uint8)).save(tmp_path / "photos" / "dark.png")
    nodes = [
        node("GlobalAveragePool", ["image"], "pooled"),
        node("Flatten", ["pooled"], "flat", axis=1),
        node("Gemm", ["flat", "weight"], "answer", transB=1),
    ]
    ports = [port("image", ["batch", 1, SIDE, SIDE])], port("answer", ["batch", 2])
    network = model(graph(nodes, [tensor("weight", np.array([[1], [2]], np.float32))], *ports))
    given = _given(
        tmp_path, network, top='classes = ["dark", "bright"]', input=f"size = {SIDE}\nchannels = 1"
    )

    found = _classes(tmp_path / "photos", *given)

    assert found["dark"][0] == "bright"
    assert found["dark"][1] == pytest.approx(1 / (1 + np.exp(-0.2)), abs=1e-4)


_UNKNOWN = model(
    graph(
        [node("Teleport", ["image"], "answer")],
        [],
        [port("image", ["b", 3, SIDE, SIDE])],
        port("answer", ["b", 3]),
    )
)
_FLAT = model(
    graph([node("Relu", ["image"], "answer")], [], [port("image", ["b", 3])], port("answer", ["b", 3]))
)
_FOUR = model(
    graph(
        [node("GlobalAveragePool", ["image"], "pooled"), node("Reshape", ["pooled", "shape"], "answer")],
        [tensor("shape", np.array([4, 3]))],
        [port("image", [4, 3, SIDE, SIDE])],
        port("answer", [4, 3]),
    )
)
_BOMB = model(
    graph(
        [
            node("ConstantOfShape", ["shape"], "huge"),
            node("ReduceSum", ["huge"], "sum", keepdims=0),
            node("GlobalAveragePool", ["image"], "pooled"),
            node("Flatten", ["pooled"], "flat", axis=1),
            node("Add", ["flat", "sum"], "answer"),
        ],
        [tensor("shape", np.array([1 << 20, 1 << 16]))],
        [port("image", ["b", 3, SIDE, SIDE])],
        port("answer", ["b", 3]),
    )
)


@pytest.mark.parametrize(
    ("network", "changes", "words"),
    [
        (_UNKNOWN, {}, "Teleport"),
        (_FLAT, {}, "its input 'image' takes"),
        (_BOMB, {}, "no engine can be made"),
        (colour_network(end="Softmax"), {}, "they add up to 1, the description says logits"),
        (colour_network(), {"output": "gives = 'softmax'"}, "do not add up to 1"),
        (colour_network(), {"top": "classes = ['a', 'b']"}, "2 numbers, one a class"),
        (colour_network(), {"input": "size = 32"}, "mend size, channels or layout"),
        (colour_network(), {"output": "name = 'other'"}, "it has no output 'other'; there are: answer"),
        (_FOUR, {}, "neither one nor any number"),
    ],
    ids=["operator", "rank", "bomb", "probabilities", "no probabilities", "classes", "size", "name", "batch"],
)
def test_a_network_that_does_not_fit_its_description_is_refused_in_one_line(
    network: bytes, changes: dict[str, str], words: str, photos: Path, tmp_path: Path
) -> None:
    done = bt_daemon("classify", photos, *_given(tmp_path, network, **changes))

    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("bt-daemon: ")
    assert words in done.stderr


@pytest.mark.parametrize("name", ["absolute external data", "two gigabytes declared", "truncated", "empty"])
def test_a_hostile_file_ends_the_command_in_one_line(name: str, photos: Path, tmp_path: Path) -> None:
    content, words = HOSTILE[name]

    done = bt_daemon("classify", photos, *_given(tmp_path, content))

    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "net.onnx" in done.stderr
    assert words in done.stderr or name == "empty"


def test_nothing_beside_the_file_is_opened(photos: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "weights.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    opened = _Opened()
    observer = Observer()
    observer.schedule(opened, str(canary))
    observer.start()
    try:
        for place in (
            str(canary / "weights.bin"),
            "canary/weights.bin",
            "../" + tmp_path.name + "/canary/weights.bin",
        ):
            network = model(
                graph(
                    [
                        node("GlobalAveragePool", ["image"], "pooled"),
                        node("Flatten", ["pooled"], "flat", axis=1),
                        node("Gemm", ["flat", "weight"], "answer", transB=1),
                    ],
                    [external("weight", place, [3, 3])],
                    [port("image", ["b", 3, SIDE, SIDE])],
                    port("answer", ["b", 3]),
                )
            )
            done = bt_daemon("classify", photos, *_given(tmp_path, network))
            assert (done.returncode, "in another file" in done.stderr) == (4, True)
        time.sleep(0.5)
        assert opened.paths == []
        (canary / "weights.bin").read_bytes()  # which is seen
        for _ in range(50):
            if opened.paths:
                break
            time.sleep(0.1)
        assert opened.paths
    finally:
        observer.stop()
        observer.join()


class _Opened(FileSystemEventHandler):
    def __init__(self) -> None:
        self.paths: list[str] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileOpenedEvent):
            self.paths.append(str(event.src_path))


def test_heatmaps_and_a_gpu_are_refused_at_once(photos: Path, tmp_path: Path) -> None:
    given = _given(tmp_path, colour_network())

    maps = bt_daemon(
        "watch", photos, "--once", "--heatmaps", tmp_path / "maps", "--db", tmp_path / "x.db", *given
    )
    drawn = bt_daemon("classify", photos, "--heatmap", tmp_path / "maps", *given)

    assert (maps.returncode, drawn.returncode) == (2, 2)
    assert "no heatmaps can be drawn" in maps.stderr
    assert "no heatmaps can be drawn" in drawn.stderr


def test_a_file_without_a_description_and_the_other_way_round_are_told(photos: Path, tmp_path: Path) -> None:
    weights, net, spec, told, *_ = _given(tmp_path, colour_network())

    without = bt_daemon("classify", photos, weights, net)
    alone = bt_daemon("classify", photos, spec, told)

    assert (without.returncode, alone.returncode) == (2, 2)
    assert "give --spec FILE.toml too" in without.stderr
    assert "give it with --weights FILE.onnx" in alone.stderr


def test_slices_are_judged_beside_photographs(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(head()).save(photos / "slice.png")

    found = _classes(photos, *_given(tmp_path, colour_network()), *FP32)

    assert found["slice"][1] == pytest.approx(1 / 3, abs=1e-3)
