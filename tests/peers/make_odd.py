"""CT_small as an odd sender might write it.

make_odd.py FILE bad_vr|stray_item|trailing|no_meta|no_preamble

bad_vr: a private element with a VR that is none; stray_item: an item outside of every
sequence; trailing: bytes behind the last element.
"""

import io
import struct
import sys

import pydicom
from pydicom.data import get_testdata_file

out, kind = sys.argv[1], sys.argv[2]
ds = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
ds.StudyInstanceUID = "1.2.77.8"
ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.77.8.1." + str(len(kind))
whole = io.BytesIO()
pydicom.dcmwrite(whole, ds, enforce_file_format=True)
raw = whole.getvalue()
bad = struct.pack("<HH", 0x0029, 0x1010) + b"\x01\x02" + struct.pack("<H", 4) + b"abcd"
pixels = raw.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
data_at = raw.index(struct.pack("<HH", 0x0008, 0x0005) + b"CS")
open(out, "wb").write({
    "bad_vr": raw[:pixels] + bad + raw[pixels:],
    "stray_item": raw[:pixels] + struct.pack("<HHI", 0xFFFE, 0xE000, 0) + raw[pixels:],
    "trailing": raw + b"\0\0\0",
    "no_meta": raw[data_at:],
    "no_preamble": raw[132:],
}[kind])
