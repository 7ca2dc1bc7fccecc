"""An archive over TLS that answers each C-FIND with the same number of instances, until it is killed.

find_scp.py PORT COUNT CERT KEY CA    (callers need a certificate that CA signed)
"""

import ssl
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

port, count = int(sys.argv[1]), int(sys.argv[2])
cert, key, ca = sys.argv[3:6]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain(cert, key)


def on_find(event):
    match = Dataset()
    match.QueryRetrieveLevel = "STUDY"
    match.StudyInstanceUID = event.identifier.StudyInstanceUID
    match.NumberOfStudyRelatedInstances = count
    yield 0xFF00, match
    yield 0x0000, None


ae = AE(ae_title="ARCHIVE")
ae.add_supported_context("1.2.840.10008.5.1.4.1.2.2.1")
ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_FIND, on_find)], ssl_context=context)
