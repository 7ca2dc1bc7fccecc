"""Writes a study of many tiny CT slices, all of one series: python make_many.py FOLDER COUNT EDGE. Prints its UID."""

import io
import sys
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.10.1.7.1"


def first(edge: int) -> bytes:
    uid = f"{STUDY}.10000000"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, "1.2.3"
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = STUDY, f"{STUDY}.1", 1
    ds.PatientID, ds.PatientName, ds.PatientSex = "LARGE", "Large^Study", "F"
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "19700101", "20260101", "101010"
    ds.Modality, ds.BodyPartExamined, ds.StudyDescription = "CT", "HEAD", "CT of thin slices"
    ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], "20000000"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 3000000], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.FrameOfReferenceUID = [0.5, 0.5], 1, f"{STUDY}.9"
    ds.Rows = ds.Columns = edge
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept, ds.PixelData = 1, -1024, bytes(2 * edge * edge)
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
bytes_of_first = first(int(sys.argv[3]))
for n in range(count):
    # The same length for each: the rest of the file stays as it is.
    file = bytes_of_first.replace(f"{STUDY}.10000000".encode(), f"{STUDY}.1{n:07d}".encode())
    file = file.replace(b"20000000", f"2{n:07d}".encode()).replace(b"3000000", f"{3000000 + n}".encode())
    (folder / f"{n:06d}.dcm").write_bytes(file)
print(STUDY)
