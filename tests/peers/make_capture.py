"""A picture with a name burned in, as Secondary Capture or ultrasound: make_capture.py PICTURE FILE TEXT [keyword=value ...]

TEXT is drawn twice in a frame of 800 x 600: in a dark bar at the top and over the picture. With Modality=US the object is
an ultrasound image whose region leaves out the bar. Prints the Study Instance UID, then the box of each text as
x0 y0 x1 y1, one a line. The patient is invented.
"""

import sys

from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, UltrasoundImageStorage, generate_uid

WIDTH, HEIGHT, BAR = 800, 600, 50
# Of the package fonts-noto-cjk; it has Vietnamese, too.
CJK = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"


def main():
    picture, file, text, *pairs = sys.argv[1:]
    given = dict(pair.split("=", 1) for pair in pairs)
    frame = Image.new("L", (WIDTH, HEIGHT))
    frame.paste(Image.open(picture).convert("L").resize((WIDTH, HEIGHT - BAR)), (0, BAR))
    draw, boxes = ImageDraw.Draw(frame), []
    font = ImageFont.load_default(24) if text.isascii() else ImageFont.truetype(CJK, 24)
    for at in [(30, 12), (60, 420)]:
        draw.text(at, text, fill=255, font=font)
        boxes.append(draw.textbbox(at, text, font=font))
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    is_ultrasound = given.get("Modality") == "US"
    ds.SOPClassUID = UltrasoundImageStorage if is_ultrasound else SecondaryCaptureImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid(), generate_uid()
    ds.StudyDate, ds.StudyTime = "20260105", "081500"
    ds.Modality = "OT"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Zyxwv^Quentin", "PID-998877", "19741201"
    ds.PatientSex, ds.PatientAge = "M", "051Y"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Columns, ds.Rows = WIDTH, HEIGHT
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    if is_ultrasound:
        region = Dataset()
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, BAR
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = WIDTH - 1, HEIGHT - 1
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
        ds.SequenceOfUltrasoundRegions = [region]
    for keyword, value in given.items():
        setattr(ds, keyword, value)
    ds.add_new("PixelData", "OB", frame.tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=True)
    print(ds.StudyInstanceUID)
    for box in boxes:
        print(*(round(edge) for edge in box))


main()
