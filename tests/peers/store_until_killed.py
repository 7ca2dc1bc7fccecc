"""Sends copies of FILE with new UIDs until the peer is gone: store_until_killed.py PORT FILE

Prints the SOP Instance UID of each instance that was answered with success, at once.
"""

import copy
import sys

from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE


def main():
    port, file = int(sys.argv[1]), sys.argv[2]
    first = dcmread(file)
    ae = AE(ae_title="KILLTEST")
    ae.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="PRELIM")
    study = generate_uid()
    for number in range(2000):
        ds = copy.deepcopy(first)
        ds.StudyInstanceUID = study
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        if not association.is_established:
            break
        try:
            status = association.send_c_store(ds)
        except Exception:
            break
        if "Status" not in status:
            break
        if status.Status == 0:
            print(ds.SOPInstanceUID, flush=True)


main()
