"""A scanner that takes its time: stores one file, waits until the file GO is there, and stores another in
the same association.

    hold_association.py PORT FIRST SECOND GO
"""
import pathlib
import sys
import time

from pydicom import dcmread
from pynetdicom import AE

port, files, go = int(sys.argv[1]), sys.argv[2:4], pathlib.Path(sys.argv[4])
images = [dcmread(file) for file in files]
scanner = AE("SCANNER")
scanner.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
association = scanner.associate("127.0.0.1", port, ae_title="PRELIM")
assert association.is_established
assert association.send_c_store(images[0]).Status == 0
while not go.exists():
    time.sleep(0.05)
assert association.send_c_store(images[1]).Status == 0
association.release()
