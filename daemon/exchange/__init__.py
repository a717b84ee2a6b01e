"""Results for other programs: a BIDS dataset, DICOM structured reports."""
