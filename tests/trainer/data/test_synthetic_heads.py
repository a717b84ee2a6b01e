"""Heads rendered from label maps: as magnetic resonance in any contrast, and as computed tomography."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config.errors import DataError
from tests.support.label_maps import BONE, GREY_LEFT, GREY_RIGHT, drawn_labels, write_label_map
from trainer.data.label_maps import KINDS, MOST, Cut, alike, cut, read_label_maps, stripped
from trainer.data.synthetic_heads import synthetic_heads, synthetic_tomograms
from trainer.images.arrays import Array, Grey
from trainer.model.spec import Preprocessing

HOW = Preprocessing(image_size=64)
CHANCE = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labels")
    write_label_map(place / "one.nii.gz", drawn_labels())
    write_label_map(place / "two.nii.gz", drawn_labels(56), 3.4)
    return place


@pytest.mark.parametrize("render", [synthetic_heads, synthetic_tomograms])
def test_pictures_are_as_many_as_asked_all_different_and_the_same_for_a_seed(
    render: object, folder: Path
) -> None:
    assert callable(render)

    first, again, another = (render(folder, HOW, 6, seed) for seed in (3, 3, 4))

    assert first.shape == (6, 64, 64)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != another).any(axis=(1, 2)).all()
    assert len({picture.tobytes() for picture in first}) == 6
    assert render(folder, HOW, 0, 3).shape == (0, 64, 64)


def test_tomograms_have_white_bone_round_nearly_flat_grey_and_resonances_have_not(folder: Path) -> None:
    tomograms = synthetic_tomograms(folder, HOW, 24, CHANCE)
    resonances = synthetic_heads(folder, HOW, 24, CHANCE)

    assert np.median(_rim(tomograms)) == 255
    assert (_rim(tomograms) == 255).mean() > 2 * (_rim(resonances) == 255).mean()
    assert (_middle(tomograms) < 250).mean() > 0.7


def _rim(pictures: Grey) -> Array:
    """The brightest of each picture's middle row's first quarter: skin and skull."""
    return np.asarray(pictures[:, 32, :16].max(axis=1))


def _middle(pictures: Grey) -> Array:
    return np.asarray(np.median(pictures[:, 26:38, 26:38], axis=(1, 2)))


def test_a_cut_shows_the_plane_that_was_asked_for_at_its_scale(tmp_path: Path) -> None:
    labels = np.zeros((40, 60, 50), dtype=np.int16)
    labels[10:30, 15:45, 20:30] = 3  # 20 x 30 x 10 mm
    path = write_label_map(tmp_path / "box.nii.gz", labels, 1.0)
    [head] = read_label_maps(path.parent)

    shapes: dict[str, list[int]] = {}
    for plane in ("axial", "coronal", "sagittal"):
        seen = cut(head, Cut(plane, 0.5, thickness=0.1), np.random.default_rng(0), layers=1)[0] == 3
        shapes[plane] = [int(seen.any(axis=1).sum()), int(seen.any(axis=0).sum())]

    # Rows and columns of 1.2 mm.
    assert np.allclose(shapes["axial"], (30 / 1.2, 20 / 1.2), atol=1)
    assert np.allclose(shapes["coronal"], (10 / 1.2, 20 / 1.2), atol=1)
    assert np.allclose(shapes["sagittal"], (10 / 1.2, 30 / 1.2), atol=1)


def test_a_mirrored_cut_is_the_cut_seen_from_the_other_side(folder: Path) -> None:
    head = read_label_maps(folder)[0]

    plain, mirrored = (
        cut(head, Cut("axial", 0.5, mirrored=mirrored), np.random.default_rng(0))
        for mirrored in (False, True)
    )

    left, right = (plain == GREY_LEFT).sum(axis=(0, 1)), (plain == GREY_RIGHT).sum(axis=(0, 1))
    assert np.flatnonzero(left).mean() > np.flatnonzero(right).mean()  # the patient's right is on the left
    assert np.flatnonzero((mirrored == GREY_LEFT).sum(axis=(0, 1))).mean() < 104


def test_left_and_right_are_toned_alike_and_stripping_leaves_the_brain() -> None:
    values = np.arange(MOST, dtype=np.float64)

    both = alike(values)

    assert both[GREY_RIGHT] == GREY_LEFT
    assert both[53] == 17
    assert both[BONE] == BONE
    labels = np.array([[0, 2, 24, 515], [42, 511, 16, 24]])
    assert stripped(labels, fluid=False).tolist() == [[0, 2, 0, 0], [42, 0, 16, 0]]
    assert stripped(labels, fluid=True).tolist() == [[0, 2, 24, 0], [42, 0, 16, 24]]


def test_no_number_is_of_two_kinds() -> None:
    numbers = [number for kind in KINDS.values() for number in kind]

    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((20, 20, 20), 0.5, dtype=np.float32), "no whole numbers"),
        (np.full((20, 20, 20), 5000, dtype=np.int16), "no whole numbers from 0 to 1023"),
        (np.full((20, 20, 20), 511, dtype=np.int16), "only 0 voxels of a brain"),
    ],
)
def test_what_is_no_label_map_is_refused_by_name(labels: Array, words: str, tmp_path: Path) -> None:
    write_label_map(tmp_path / "odd.nii.gz", labels)

    with pytest.raises(DataError, match=f"odd.nii.gz is no label map.*{words}"):
        read_label_maps(tmp_path)


def test_broken_files_and_empty_folders_are_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label maps in"):
        read_label_maps(tmp_path)

    (tmp_path / "broken.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"broken.nii.gz is no label map"):
        read_label_maps(tmp_path)
