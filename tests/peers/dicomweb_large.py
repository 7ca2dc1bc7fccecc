"""Stores one large multi-frame instance over DICOMweb in pieces and reads it back, in little memory.

    dicomweb_large.py URL MEGABYTES

Prints the digests of what was sent and of what came back, which must be the same.
"""

import hashlib
import io
import sys

import pydicom
import requests
from pydicom.dataset import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.uid import MultiFrameGrayscaleByteSecondaryCaptureImageStorage as SC

PIECE = bytes(range(256)) * 4096


def head(frames):
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SC, "1.2.3.4.5.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4.5", "1.2.3.4.5.2"
    ds.Modality, ds.PatientID, ds.NumberOfFrames = "OT", "LARGE", frames
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 1024, 1024, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    length = (frames * len(PIECE)).to_bytes(4, "little")
    return file.getvalue() + b"\xe0\x7f\x10\x00OB\0\0" + length


def main(url, megabytes):
    sent = hashlib.sha256()

    def body():
        yield b"--large\r\nContent-Type: application/dicom\r\n\r\n"
        yield head(megabytes)
        for _ in range(megabytes):
            sent.update(PIECE)
            yield PIECE
        yield b"\r\n--large--\r\n"

    kind = 'multipart/related; type="application/dicom"; boundary=large'
    answer = requests.post(
        f"{url}/studies/1.2.3.4.5", data=body(), headers={"Content-Type": kind}, timeout=120
    )
    assert answer.status_code == 200, answer.text
    instance = f"{url}/studies/1.2.3.4.5/series/1.2.3.4.5.2/instances/1.2.3.4.5.1"
    got, size = hashlib.sha256(), 0
    bulk = {"Accept": "application/octet-stream"}
    with requests.get(
        f"{instance}/bulkdata/7FE00010", stream=True, headers=bulk, timeout=120
    ) as answer:
        for piece in answer.iter_content(1 << 20):
            got.update(piece)
            size += len(piece)
    last = requests.get(
        f"{instance}/frames/{megabytes}", headers={"Accept": "application/octet-stream"}, timeout=60
    )
    assert last.content == PIECE, "the last frame differs"
    assert size == megabytes * len(PIECE) and sent.digest() == got.digest(), "it came back otherwise"
    print(sent.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
