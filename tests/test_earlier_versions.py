"""Files of an earlier version (commit e67d56b): its weights give the same answers, its database goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.support.daemons import bt_daemon
from trainer.images.phantom import phantom
from trainer.model.weights import read_weights
from trainer.networks.loading import load

WEIGHTS = REPOSITORY / "tests" / "earlier" / "weights.safetensors"
SCHEMA = REPOSITORY / "tests" / "schemas" / "0001.sql"
# What that version's network said of the images below, to its sixth decimal.
LOGITS = [[0.25901, -0.192976], [0.258196, -0.19301], [0.25772, -0.193396]]


def test_weights_of_an_earlier_version_give_the_same_logits() -> None:
    weights = read_weights(WEIGHTS)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)

    with torch.inference_mode():
        logits = load(weights)(torch.from_numpy(images))[0]

    np.testing.assert_allclose(logits.numpy(), LOGITS, atol=2e-6)
    assert weights.spec.decision.threshold == 0.4
    assert weights.spec.out_of_distribution is not None
    assert "int8.ranges" in weights.tensors


@pytest.mark.slow
def test_a_database_of_an_earlier_version_is_read_and_gone_on_with(tmp_path: Path) -> None:
    database, inbox = tmp_path / "results.db", tmp_path / "inbox"
    with closing(sqlite3.connect(database)) as made:
        made.executescript(SCHEMA.read_text())
        earlier = made.execute("SELECT count(*) FROM result").fetchone()[0]
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "new.png")
    asked = ("results", "--count", "--status", "all", "--db", database)

    watched = bt_daemon(
        "watch",
        inbox,
        "--once",
        "--settle",
        "0s",
        "--weights",
        WEIGHTS,
        "--precision",
        "fp32",
        "--db",
        database,
    )

    assert watched.returncode == 0, watched.stderr
    assert earlier > 0
    assert bt_daemon(*asked).stdout.split() == [str(earlier + 1)]
    assert "ok" in bt_daemon("db", "check", "--db", database).stdout
