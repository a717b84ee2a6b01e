"""Networks of timm: exact maps, training, weights from a file, and a daemon that judges with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from config.errors import UsageError
from config.extras import installed
from tests.support.daemons import bt_daemon, rows
from tests.support.flowers import PETALS, draw_flowers
from tests.support.training import train
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier
from trainer.networks.loading import load_pretrained
from trainer.networks.registry import build, registered
from trainer.networks.timm_body import TimmBody

# To import it takes seconds: for the tests to be found it is not needed.
pytestmark = pytest.mark.skipif(not installed("timm"), reason="the extra timm is not installed")

# timm's own small networks for tests: convolutions, channels last or first, tokens with one for the class.
NAMES = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_vit2", "test_mambaout"]
SIZE = 96


def _network(name: str) -> Classifier:
    torch.manual_seed(1)
    network = build(f"timm:{name}", 3, None, Preprocessing.of_colour(SIZE))
    network.eval()
    return network


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(name: str) -> None:
    network = _network(name)
    pictures = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)

    with torch.no_grad():
        logits, features, maps = network(pictures)

    assert logits.shape == (2, 3)
    assert features.shape == (2, network.head.in_features)
    assert maps.shape[2] == maps.shape[3] > 1
    torch.testing.assert_close(maps.mean(dim=(2, 3)) + network.head.bias, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_maps_keep_places(name: str) -> None:
    """What changes in a corner of the picture changes the map there most."""
    network = _network(name)
    blank = torch.full((1, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    spotted = blank.clone()
    spotted[..., :24, -24:] = 255

    with torch.no_grad():
        change = (network(spotted)[2] - network(blank)[2]).abs().sum(dim=(0, 1))

    row, column = divmod(int(change.argmax()), change.shape[1])
    assert row < change.shape[0] / 2
    assert column >= change.shape[1] / 2


def test_size_and_colours_are_what_timm_says() -> None:
    entry = registered("timm:test_resnet")

    assert entry.image_size == 160
    assert entry.mean == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet_of_nobody", "has no network 'resnet_of_nobody'"),
        ("timm:", "has no network ''"),
        ("timm:../../etc", "has no network"),
    ],
)
def test_a_name_that_timm_does_not_know_is_told_in_one_line(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        registered(name)


def test_a_size_that_a_network_does_not_take_is_told_in_one_line() -> None:
    with pytest.raises(UsageError, match="makes no map of places of pictures of 97 pixels"):
        build("timm:test_vit", 2, None, Preprocessing.of_colour(97))


def test_timm_that_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.networks.timm_body.installed", lambda _: False)

    with pytest.raises(UsageError) as told:
        registered("timm:test_resnet")

    assert told.value.hint == "pip install 'bt-daemon[timm]'"


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_trained_weights_come_from_a_file(ending: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(9)
    whole = timm.create_model("test_resnet", pretrained=False)
    place = tmp_path / f"model.{ending}"
    if ending == "pth":
        torch.save(whole.state_dict(), place)
    else:
        save_file(whole.state_dict(), place)
    network = _network("test_resnet")

    load_pretrained("timm:test_resnet", network, place)

    assert isinstance(network.body, TimmBody)
    own = network.body.model.state_dict()
    expected = whole.state_dict()
    assert own
    assert all(torch.equal(value, expected[name]) for name, value in own.items())


def test_a_file_that_is_none_and_a_pickle_that_runs_code_are_refused_in_one_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"no weights")
    hostile = tmp_path / "hostile.pth"
    torch.save({"a": _Hostile(tmp_path / "ran")}, hostile)

    for place in (wrong, hostile, tmp_path / "none.safetensors"):
        with pytest.raises(UsageError, match="holds no weights of timm:test_resnet"):
            load_pretrained("timm:test_resnet", _network("test_resnet"), place)

    assert not (tmp_path / "ran").exists()


class _Hostile:
    """Pickled so that loading it would write a file."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._place,)


def test_another_network_takes_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for networks of timm, not for resnet18"):
        load_pretrained("resnet18", build("resnet18", 2), tmp_path / "model.safetensors")


@pytest.mark.slow
def test_it_is_trained_and_a_daemon_judges_with_it(tmp_path: Path) -> None:
    draw_flowers(tmp_path / "flowers", 24)
    judged = tmp_path / "inbox"
    draw_flowers(judged, 1, first=900)

    done = train("--data", tmp_path / "flowers", "--colour", "--arch", "timm:test_efficientnet",
                 "--image-size", str(SIZE), "--epochs", "1", "--log", "none",
                 "-o", tmp_path / "run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "run" / "model.safetensors"
    watched = bt_daemon("watch", judged, "--once", "--settle", "0s", "--weights", weights,
                        "--db", tmp_path / "x.db")  # fmt: skip
    exported = train("export", weights, "--onnx", tmp_path / "x.onnx", "--openvino", tmp_path / "x.xml")

    assert watched.returncode == 0, watched.stderr
    assert len(rows(tmp_path / "x.db")) == len(PETALS)
    assert "torch fp32 on cpu" in watched.stderr
    assert exported.returncode == 0, exported.stderr  # both compared with the network


def test_models_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.cli import main

    monkeypatch.setenv("BT_CACHE", str(tmp_path))
    asked = ["models", "timm:test_resnet", "--image-size", "64"]

    assert main([*asked, "--no-measure"]) == 0
    without = capsys.readouterr().out.splitlines()
    assert main(asked) == 0
    first = capsys.readouterr().out.splitlines()
    assert main([*asked, "--no-measure"]) == 0
    kept = capsys.readouterr().out.splitlines()

    assert without[1].split()[3] == "-"
    assert int(first[1].split()[3]) > 0
    assert kept == first
