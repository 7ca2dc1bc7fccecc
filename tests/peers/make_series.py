"""A study of small CT images, one file each; prints its instance UIDs, one a line.

make_series.py FOLDER STUDY COUNT [key=value...]   (keywords of the data set, e.g. SeriesDescription=Bone)

The instances are <STUDY>.<SeriesNumber>.<number>, the series is <STUDY>.<SeriesNumber>.
"""

import pathlib
import sys

import pydicom
from pydicom.data import get_testdata_file

folder, study, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
given = dict(pair.split("=", 1) for pair in sys.argv[4:])
number = given.get("SeriesNumber", "1")
folder.mkdir(parents=True, exist_ok=True)
ds = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
for key, value in given.items():
    setattr(ds, key, value)
ds.StudyInstanceUID = study
ds.SeriesInstanceUID = f"{study}.{number}"
for n in range(1, count + 1):
    ds.SOPInstanceUID = f"{study}.{number}.{n}"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.InstanceNumber = n
    ds.save_as(folder / f"{number}-{n}.dcm")
    print(ds.SOPInstanceUID)
