"""MR series of drawn heads as DICOM files, with the identifiers of a patient who does not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from trainer.images.phantom import phantom

ROOT = "1.2.826.0.1.3680043.8.498.77"
PATIENT_ID = "CANARY-4711"
PATIENT_NAME = "Müller^Känari"


def write_series(folder: Path, number: int, slices: int, **elements: Any) -> list[Path]:
    """Write a series of single slices, the odd ones with a lesion; return the files in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(slices):
        dataset = _object(number, index, np.asarray(phantom(index, lesion=index % 2 == 1).convert("L")))
        dataset.ImagePositionPatient = [0, 0, 5 * index]
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        files.append(folder / f"IM{index:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def write_frames(file: Path, number: int, frames: int) -> None:
    """Write a series of one object with several frames, the last with a lesion."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [
        np.asarray(phantom(index, lesion=index == frames - 1).convert("L")) for index in range(frames)
    ]
    dataset = _object(number, 0, np.stack(pictures))
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.save_as(file, enforce_file_format=True)


def series_uid(number: int) -> str:
    """Return the SeriesInstanceUID of a series that was written."""
    return f"{ROOT}.{number}"


def _object(number: int, index: int, pixels: np.ndarray) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = UID(f"{ROOT}.{number}.{index + 1}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.PatientName = PATIENT_ID, PATIENT_NAME
    dataset.PatientBirthDate, dataset.PatientSex = "19500102", "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.9", series_uid(number)
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20200304", "101112", "CANARY-ACC"
    dataset.SeriesNumber, dataset.InstanceNumber = number, index + 1
    dataset.Modality = "MR"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    return dataset
