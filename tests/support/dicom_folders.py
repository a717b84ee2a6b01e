"""Class folders of DICOM series, each of a patient whose name must not get out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

CANARY = "CANARY"


def write_dicom(path: Path, picture: np.ndarray, patient: str, series: str, place: int) -> None:
    """Write one slice (rows, columns) uint8 of a patient's series, `place` mm along it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[series, str(place)])
    dataset.PatientID = dataset.PatientName = patient
    dataset.StudyInstanceUID = f"1.2.826.0.1.{series}"
    dataset.SeriesInstanceUID = f"1.2.826.0.2.{series}"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, place]
    dataset.InstanceNumber = place
    dataset.Modality = "MR"
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = picture.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def draw_dicom_series(root: Path, patients: int, slices: int = 3) -> Path:
    """Fill `root` with a series for each of as many patients with a tumour, in every slice, as without.

    File names say nothing of patients or order. What they show is smooth noise: no two are near-duplicates.
    """
    for number in range(2 * patients):
        for place in range(slices):
            seed = 100 * number + place
            coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))
            path = root / ("yes" if number % 2 else "no") / f"{(seed * 7919) % 100_003:06d}.dcm"
            write_dicom(path, picture, f"{CANARY}{number}", f"777{number}", place)
    return root
