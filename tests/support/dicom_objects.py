"""DICOM objects of made-up patients: drawn MR slices, and real ones with other people's names planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.conftest import SHARED
from trainer.images.phantom import phantom

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CANARY = "Zanzibarra^Quillfeather"
CANARY_WORDS = tuple(CANARY.split("^"))


def mr_slice(number: int, *, size: int = 64) -> Dataset:
    """Return a drawn MR slice of size x size pixels, another one for every number."""
    pixels = np.asarray(phantom(number % 50, lesion=number % 2 == 0, size=size, label=False).convert("L"))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MR_IMAGE
    dataset.Modality = "MR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = size
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    stored = pixels.astype("<u2") * 16
    stored[number // size % size, number % size] += 7  # the content differs too, not the UID alone
    dataset.PixelData = stored.tobytes()
    return planted(dataset, number)


def planted(dataset: Dataset, number: int) -> Dataset:
    """Give an object a SOP instance of its own and the made-up patient."""
    dataset.SOPInstanceUID = generate_uid(None, [f"bt-daemon test object {number}"])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword in ("PatientName", "PatientID", "StudyDescription", "SeriesDescription", "InstitutionName"):
        setattr(dataset, keyword, CANARY)
    return dataset


def real_slices() -> list[Path]:
    """Return the real MR slices beside the checkout, none if there are none."""
    folders = ("brainix-flair", "brainix-t1", "mprage")
    return sorted(path for name in folders for path in (SHARED / "data" / "dicom" / name).glob("*.dcm"))


def written(folder: Path, number: int, *, start: int = 0) -> list[Path]:
    """Write so many objects, drawn ones and real ones in turn, and return their files."""
    real = real_slices()
    paths = []
    for count in range(start, start + number):
        use_real = real and count % 2
        dataset = planted(dcmread(real[count // 2 % len(real)]), count) if use_real else mr_slice(count)
        path = folder / f"object-{count:05}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
