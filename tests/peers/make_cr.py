"""A chest X-ray as a Computed Radiography object: make_cr.py PICTURE FILE [keyword=value ...]

Prints the Study Instance UID. Keywords are DICOM's (PatientAge=004Y); the patient is invented.
"""

import sys

from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid


def main():
    picture, file, *pairs = sys.argv[1:]
    grey = Image.open(picture).convert("L")
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260105"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "081500"
    ds.AccessionNumber = "ACC-774411"
    ds.Modality = "CR"
    ds.Manufacturer = "Fixture"
    ds.ReferringPhysicianName = "Ward^One"
    ds.StudyDescription = "Chest AP"
    ds.PatientName = "Zyxwv^Quentin"
    ds.PatientID = "PID-998877"
    ds.PatientBirthDate = "20210630"
    ds.PatientSex = "M"
    ds.PatientAge = "004Y"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "AP"
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.PatientOrientation = ["L", "F"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Columns, ds.Rows = grey.size
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    for pair in pairs:
        keyword, value = pair.split("=", 1)
        several = keyword == "SpecificCharacterSet" and "\\" in value
        setattr(ds, keyword, value.split("\\") if several else value)
    pixels = grey.tobytes()
    ds.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=True)
    print(ds.StudyInstanceUID)


main()
