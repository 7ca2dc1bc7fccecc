"""A CT of an invented chest with one calcified nodule in the right lung: make_chest_ct.py FOLDER

60 slices of 1 mm, 1.2 mm pixels; the nodule has 8 mm and its middle on slice 31 (30 mm), at column 80, row 128.
Prints the Study Instance UID.
"""

import pathlib
import sys

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

EDGE, PIXEL_MM = 256, 1.2
NODULE = (80, 128, 30.0, 4.0)


def slice_hu(z, noise):
    y, x = np.mgrid[:EDGE, :EDGE]
    hu = np.full((EDGE, EDGE), -1000.0)
    hu[((x - 128) / 110) ** 2 + ((y - 128) / 80) ** 2 < 1] = 40
    for middle in (75, 181):
        hu[((x - middle) / 40) ** 2 + ((y - 128) / 58) ** 2 < 1] = -850
    column, row, height, radius = NODULE
    away = np.sqrt(((x - column) * PIXEL_MM) ** 2 + ((y - row) * PIXEL_MM) ** 2 + (z - height) ** 2)
    share = np.clip(0.5 - (away - radius) / PIXEL_MM, 0, 1)
    return hu + share * (700 - hu) + noise.normal(0, 10, hu.shape)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID = generate_uid()
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260105"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "081500"
    ds.AccessionNumber, ds.StudyID, ds.SeriesNumber = "ACC-774411", "1", 1
    ds.Modality, ds.Manufacturer, ds.BodyPartExamined = "CT", "Fixture", "CHEST"
    ds.StudyDescription = "CT chest"
    ds.PatientName, ds.PatientID = "Zyxwv^Quentin", "PID-998877"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600630", "M", "065Y"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [PIXEL_MM, PIXEL_MM], 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = EDGE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for number in range(60):
        ds.SOPInstanceUID = generate_uid()
        ds.InstanceNumber = number + 1
        ds.ImagePositionPatient = [0, 0, number]
        stored = np.clip(slice_hu(float(number), noise) + 1024, 0, 4095)
        ds.PixelData = stored.astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
    print(ds.StudyInstanceUID)


main()
