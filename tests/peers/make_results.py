"""Results of another AI software for an image: make_results.py IMAGE FOLDER [keyword=value ...]

Writes sc.dcm (the image with boxes, as Secondary Capture), boxes.dcm (the same in the image's own SOP class, DERIVED), sr.dcm
(Basic Text, not verified, no observer), report.dcm (Encapsulated PDF) and gsps.dcm. The keywords (Manufacturer=…) go over
the software's own in all of them.
"""

import pathlib
import sys

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

image, folder = dcmread(sys.argv[1]), pathlib.Path(sys.argv[2])
given = dict(pair.split("=", 1) for pair in sys.argv[3:])
folder.mkdir(parents=True, exist_ok=True)


def common(ds, modality, sop_class):
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
                    "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        setattr(ds, keyword, image.get(keyword, ""))
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, 950, 1
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "Vendor AI", "Boxes", "1"
    ds.ContentDate, ds.ContentTime = "20260105", "081700"
    for keyword, value in given.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def with_boxes(modality, sop_class):
    ds = common(Dataset(), modality, sop_class)
    rows, columns = image.Rows, image.Columns
    pixels = bytearray(rows * columns)
    for x in range(columns // 4, columns // 2):
        for y in (rows // 4, rows // 2):
            pixels[y * columns + x] = 255
    ds.ImageType = ["DERIVED", "SECONDARY"]
    if sop_class == SecondaryCaptureImageStorage:
        ds.ConversionType = "WSD"
    for keyword in ("BodyPartExamined", "ViewPosition"):
        setattr(ds, keyword, image.get(keyword, ""))
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.add_new("PixelData", "OB", bytes(pixels) + b"\0" * (len(pixels) % 2))
    return ds


def text(words):
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121071", "DCM", "Finding"
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence, item.TextValue = "CONTAINS", "TEXT", [name], words
    ds = common(Dataset(), "SR", BasicTextSRStorage)
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "18748-4", "LN", "Diagnostic imaging study"
    ds.ValueType, ds.ConceptNameCodeSequence, ds.ContinuityOfContent = "CONTAINER", [title], "SEPARATE"
    ds.ContentSequence = [item]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    return ds


def pdf():
    ds = common(Dataset(), "DOC", EncapsulatedPDFStorage)
    ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument, ds.BurnedInAnnotation = "Result", "application/pdf", "YES"
    ds.EncapsulatedDocument = b"%PDF-1.4\n%%EOF\n "
    return ds


def gsps():
    ds = common(Dataset(), "PR", GrayscaleSoftcopyPresentationStateStorage)
    ds.ContentLabel, ds.PresentationCreationDate, ds.PresentationCreationTime = "BOXES", "20260105", "081700"
    return ds


objects = {
    "sc": with_boxes("OT", SecondaryCaptureImageStorage),
    "boxes": with_boxes(image.Modality, image.SOPClassUID),
    "sr": text("Large left pneumothorax. No pleural effusion. The lungs are otherwise clear."),
    "report": pdf(),
    "gsps": gsps(),
}
for name, ds in objects.items():
    ds.save_as(folder / f"{name}.dcm", enforce_file_format=True)
