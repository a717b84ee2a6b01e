"""Masks and boxes of lesions become maps that lie where the network's input shows the lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from config.errors import UsageError
from trainer.data.annotations import Annotations, load_annotations, without_annotations
from trainer.data.dataset import Dataset, find_images, load_dataset
from trainer.model.spec import Preprocessing

SPEC = Preprocessing(image_size=64)
# Of the drawn pictures: the head lies right of the middle and is wider than tall; the lesion is bright.
SIZE, HEAD, LESION = (200, 160), (60, 30, 180, 120), (80, 50, 110, 80)


def _head(lesion: bool) -> Image.Image:
    picture = Image.new("L", SIZE)
    pen = ImageDraw.Draw(picture)
    pen.ellipse(HEAD, fill=100)
    if lesion:
        pen.ellipse(LESION, fill=250)
    return picture


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two healthy heads and three with a lesion: masked, in a box, and of unknown place."""
    for label, names in {"no": ("a_t1", "b_t1"), "yes": ("masked_t1", "boxed_t1", "unknown_t1")}.items():
        (tmp_path / "heads" / label).mkdir(parents=True)
        for number, name in enumerate(names):
            picture = _head(label == "yes")
            picture.putpixel((number, 0), 3)  # no two files have the same bytes
            picture.save(tmp_path / "heads" / label / f"{name}.png")
    return load_dataset(find_images([tmp_path / "heads"]), SPEC, tmp_path / "cache", workers=1)


def _annotate(folder: Path, *, mask_size: tuple[int, int] = SIZE, name: str = "masked_t1") -> Path:
    (folder / "heads").mkdir(parents=True)
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).ellipse(LESION, fill=1)  # anything but black
    mask.resize(mask_size, Image.Resampling.NEAREST).save(folder / "heads" / f"{name}.png")
    shares = [LESION[0] / SIZE[0], LESION[1] / SIZE[1], LESION[2] / SIZE[0], LESION[3] / SIZE[1]]
    (folder / "boxes.csv").write_text(
        "file,left,upper,right,lower\nheads/yes/boxed_t1.png,"
        + ",".join(f"{one:.4f}" for one in shares)
        + "\n"
    )
    return folder


def _of(annotations: Annotations, dataset: Dataset, name: str) -> tuple[np.ndarray, bool]:
    place = next(place for place, image in enumerate(dataset.files) if image.path.stem == name)
    return annotations.maps[place], bool(annotations.known[place])


@pytest.mark.parametrize("name", ["masked_t1", "boxed_t1"])
def test_map_lies_on_the_lesion_that_the_network_sees(tmp_path: Path, dataset: Dataset, name: str) -> None:
    annotations = load_annotations(_annotate(tmp_path / "marks"), dataset, SPEC, 1)

    shown, known = _of(annotations, dataset, name)

    assert known
    place = next(place for place, image in enumerate(dataset.files) if image.path.stem == name)
    bright = (dataset.pictures[place] > 200).reshape(16, 4, 16, 4).mean(axis=(1, 3)) * 255
    assert bright.max() == 255
    assert np.abs(shown - bright).mean() < 4  # of 255: edges only


def test_healthy_heads_are_known_to_be_empty_and_unmarked_lesions_are_not_known(
    tmp_path: Path, dataset: Dataset
) -> None:
    annotations = load_annotations(_annotate(tmp_path / "marks"), dataset, SPEC, 1)

    assert annotations.known.tolist() == [True, True, True, True, False]
    assert [one.path.stem for one in dataset.files][-1] == "unknown_t1"
    assert not annotations.maps[dataset.labels == 0].any()


def test_sequences_of_a_slice_share_a_mask(tmp_path: Path, dataset: Dataset) -> None:
    annotations = load_annotations(_annotate(tmp_path / "marks", name="masked"), dataset, SPEC, 1)

    assert _of(annotations, dataset, "masked_t1")[1]


def test_mask_of_a_picture_made_smaller_still_fits_and_one_of_another_shape_does_not(
    tmp_path: Path, dataset: Dataset
) -> None:
    larger = load_annotations(_annotate(tmp_path / "larger", mask_size=(400, 320)), dataset, SPEC, 1)
    other = load_annotations(_annotate(tmp_path / "other", mask_size=(160, 200)), dataset, SPEC, 1)

    assert _of(larger, dataset, "masked_t1")[0].any()
    assert _of(other, dataset, "masked_t1")[1] is False


def test_without_a_class_looked_for_nothing_is_known(dataset: Dataset) -> None:
    assert not without_annotations(dataset, SPEC, None).known.any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,left,upper,right,lower\nheads/yes/boxed_t1.png,0.5,0.1,0.4,0.2\n", "left before right"),
        ("file,left,upper,right,lower\nheads/yes/boxed_t1.png,0.5,0.1\n", "cannot read the boxes"),
        ("file,left,upper,right,lower\nheads/yes/boxed_t1.png,wide,0.1,0.6,0.2\n", "cannot read the boxes"),
        ("file,left,upper,right,lower\nheads/yes/nobody.png,0.1,0.1,0.6,0.2\n", "nothing in .* belongs"),
        ("a,b\n1,2\n", "nothing in .* belongs"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, dataset: Dataset, text: str, said: str
) -> None:
    (tmp_path / "boxes.csv").write_text(text)

    with pytest.raises(UsageError, match=said) as caught:
        load_annotations(tmp_path, dataset, SPEC, 1)

    assert "\n" not in str(caught.value)
