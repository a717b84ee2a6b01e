"""`bt-train --annotations DIR`: a network learns where lesions are, of masks and boxes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from daemon.engines.build_openvino import make_engine
from daemon.engines.openvino_engine import open_graph
from tests.support.training import Run, train, trained
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess, preprocess_mask
from trainer.model.weights import read_weights

pytestmark = pytest.mark.slow

SMALL = (
    "--arch",
    "lite0_six_map",
    "--image-size",
    "96",
    "--epochs",
    "4",
    "--batch",
    "16",
    "--samples",
    "192",
)


def _lesion(seed: int) -> tuple[int, int, int, int]:
    rng = random.Random(seed)
    x, y, reach = rng.randint(90, 166), rng.randint(90, 166), rng.randint(18, 28)
    return x - reach, y - reach, x + reach, y + reach


def _head(seed: int, *, lesion: bool) -> Image.Image:
    head = phantom(seed, lesion=False, label=False)
    if lesion:
        ImageDraw.Draw(head).ellipse(_lesion(seed), fill=240)
    return head


def _mask(seed: int) -> Image.Image:
    mask = Image.new("L", (256, 256))
    ImageDraw.Draw(mask).ellipse(_lesion(seed), fill=255)
    return mask


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training on heads with masks for half of their lesions and boxes for most of the others."""
    folder = tmp_path_factory.mktemp("annotated")
    (folder / "marks" / "heads").mkdir(parents=True)
    boxes = ["file,left,upper,right,lower"]
    for label in ("no", "yes"):
        (folder / "heads" / label).mkdir(parents=True)
        for seed in range(24):
            number = seed + 100 * (label == "yes")
            _head(number, lesion=label == "yes").save(folder / "heads" / label / f"{number}_t1.png")
            if label == "yes" and seed % 2:
                _mask(number).save(folder / "marks" / "heads" / f"{number}.png")
            elif label == "yes" and seed > 4:
                shares = ",".join(f"{edge / 256:.4f}" for edge in _lesion(number))
                boxes.append(f"heads/yes/{number}_t1.png,{shares}")
    (folder / "marks" / "boxes.csv").write_text("\n".join(boxes) + "\n")
    data = ("--data", folder / "heads", "--annotations", folder / "marks")
    return trained(folder / "run", *data, *SMALL, "--groups", "none", "--json")


def test_what_is_known_of_lesions_is_said(annotated: Run) -> None:
    assert annotated.done.returncode == 0, annotated.done.stderr
    assert "it is known where the lesions are in 21 of 24 images of 'yes'" in annotated.done.stderr
    assert json.loads(annotated.done.stdout)["architecture"] == "lite0_six_map"


def test_the_heatmap_is_highest_where_the_lesion_is(annotated: Run) -> None:
    """Of heads that it has not seen, and in what the daemon computes with."""
    assert annotated.done.returncode == 0, annotated.done.stderr
    weights = read_weights(annotated.folder / "model.safetensors")
    preprocessing = weights.spec.preprocessing
    heads = [_head(seed, lesion=True) for seed in range(200, 216)]

    maps = open_graph(weights).run(np.stack([preprocess(head, preprocessing) for head in heads])).maps[:, 1]

    assert maps.shape == (16, 6, 6)
    covered = np.stack(
        [preprocess_mask(_mask(200 + n), head, preprocessing, 6) for n, head in enumerate(heads)]
    )
    on_it = [covered[n].flat[maps[n].argmax()] > 0 for n in range(16)]
    by_chance = (covered > 0).mean()
    assert np.mean(on_it) > 0.8
    assert by_chance < 0.4


def test_a_daemon_takes_the_network_for_what_was_trained(annotated: Run, tmp_path: Path) -> None:
    prepared = make_engine(annotated.folder / "model.safetensors", tmp_path / "engine", "fp32")

    assert "computes what its training computed of 64 probe pictures" in prepared.why


def test_a_folder_with_nothing_in_it_is_one_line_and_exit_2(annotated: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    data = annotated.options[1]

    done = train("--data", data, "--annotations", tmp_path / "empty", "-o", tmp_path / "run", *SMALL)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("bt-train: nothing in")
    assert "masks are SOURCE/NAME.png" in done.stderr
