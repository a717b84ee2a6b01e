"""The distance limit lets pass what training pictures may look like, and is the same for the same seed."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.label_maps import drawn_labels, write_label_map
from trainer.data.ood_negatives import other_pictures
from trainer.data.synthetic_heads import synthetic_heads, synthetic_tomograms
from trainer.data.training_set import TrainingSet
from trainer.evaluation.ood import LimitExamples, fit_limit
from trainer.images.arrays import Grey
from trainer.images.phantom import phantom
from trainer.model.prediction import distances
from trainer.model.preprocess import preprocess
from trainer.model.spec import OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict
from trainer.networks.loading import load_pretrained
from trainer.networks.registry import build

HOW = Preprocessing(image_size=48)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    network = build("lite0_short", 2, None, HOW)
    load_pretrained("lite0_short", network)
    return network.eval()


@pytest.fixture(scope="module")
def heads() -> TrainingSet:
    pictures = np.stack([preprocess(phantom(n, lesion=n % 2 == 0, label=False), HOW) for n in range(150)])
    labels, everything = np.arange(150) % 2, np.arange(150)
    return TrainingSet(pictures, labels, np.zeros(150, np.int64), everything[:100], everything[100:])


@pytest.fixture(scope="module")
def fitted(network: Classifier, heads: TrainingSet) -> tuple[OutOfDistribution, Tensors]:
    return fit_limit(network, heads, CPU, HOW, seed=0)


@pytest.mark.slow
def test_the_limit_divides_heads_from_pictures_of_other_kinds(
    network: Classifier, heads: TrainingSet, fitted: tuple[OutOfDistribution, Tensors]
) -> None:
    limit, tensors = fitted

    others = other_pictures(heads.pictures, HOW, 80, seed=9)
    _, found = predict(network, others, CPU)
    _, held_out = predict(network, heads.pictures[heads.validation], CPU)
    assert float((distances(held_out, tensors) <= limit.max_distance).mean()) > 0.9
    assert float((distances(found, tensors) > limit.max_distance).mean()) > 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_limit(
    network: Classifier, heads: TrainingSet, fitted: tuple[OutOfDistribution, Tensors]
) -> None:
    again, _ = fit_limit(network, heads, CPU, HOW, seed=0)

    assert again == fitted[0]


@pytest.mark.slow
def test_tomograms_that_were_shown_are_rejected_and_heads_of_any_contrast_pass(
    network: Classifier, heads: TrainingSet, tmp_path: Path
) -> None:
    write_label_map(tmp_path / "head.nii.gz", drawn_labels())
    examples = LimitExamples(
        heads=(synthetic_heads(tmp_path, HOW, 80, seed=0),),
        strangers=(synthetic_tomograms(tmp_path, HOW, 80, seed=0),),
    )

    limit, tensors = fit_limit(network, heads, CPU, HOW, 0, examples)

    def rejected(pictures: Grey) -> float:
        return float((distances(predict(network, pictures, CPU)[1], tensors) > limit.max_distance).mean())

    assert rejected(synthetic_tomograms(tmp_path, HOW, 40, seed=1)) > 0.8
    assert rejected(synthetic_heads(tmp_path, HOW, 40, seed=1)) < 0.3
    assert rejected(heads.pictures[heads.validation]) < 0.1


@pytest.mark.slow
def test_features_of_a_file_from_before_texture_are_judged_by_what_it_knows(
    network: Classifier, heads: TrainingSet, fitted: tuple[OutOfDistribution, Tensors]
) -> None:
    _, tensors = fitted
    _, features = predict(network, heads.pictures[:5], CPU)
    older = {"ood.means": tensors["ood.means"][:, :256], "ood.whitening": tensors["ood.whitening"][:256]}

    assert np.array_equal(distances(features, older), distances(features[:, :256], older))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_stays_with_the_process() -> None:
    """In a process of its own: the setting lasts until a process ends."""
    script = (
        "import os, numpy as np\n"
        "from trainer.training.allocator import keep_freed_memory as keep; assert keep()\n"
        "pages = lambda: int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGESIZE')\n"
        "a = np.ones(100 << 20, dtype=np.uint8); held = pages(); del a; print(held - pages())"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 10 << 20
