"""Receive images over the network: a DICOM storage provider (C-STORE SCP) that files them in an inbox."""
