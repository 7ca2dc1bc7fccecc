"""An archive that sends everything it gets on to a node: forwarder.py PORT FOLDER NODE_PORT

What comes in is kept in FOLDER. Each round sends all that it holds to the node at NODE_PORT. FOLDER/rounds.txt holds how
many were sent since the node's first result came.
"""

import pathlib
import sys
import threading
import time

from pydicom import dcmread
from pynetdicom import AE, StoragePresentationContexts, evt

PORT, FOLDER, NODE = int(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
held, lock, arrived, answered = {}, threading.Lock(), threading.Event(), threading.Event()
EXTRA = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.66.4")


def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    path = FOLDER / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    with lock:
        held[ds.SOPInstanceUID] = path
    arrived.set()
    if event.assoc.requestor.ae_title.strip() == "PRELIM":
        answered.set()
    return 0x0000


def send_all():
    with lock:
        paths = list(held.values())
    sets = [dcmread(path) for path in paths]
    ae = AE(ae_title="ARCHIVE")
    for pair in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in sets}:
        ae.add_requested_context(*pair)
    association = ae.associate("127.0.0.1", NODE, ae_title="PRELIM")
    if not association.is_established:
        return False
    statuses = [association.send_c_store(ds) for ds in sets]
    association.release()
    return all(status and status.Status == 0 for status in statuses)


def forward():
    sent = 0
    arrived.wait()
    while True:
        counts = answered.is_set()
        if send_all() and counts:
            sent += 1
            (FOLDER / "rounds.txt").write_text(str(sent))
        time.sleep(0.3)


threading.Thread(target=forward, daemon=True).start()
ae = AE(ae_title="ARCHIVE")
ae.supported_contexts = StoragePresentationContexts
for uid in EXTRA:
    ae.add_supported_context(uid)
ae.start_server(("127.0.0.1", PORT), block=True, evt_handlers=[(evt.EVT_C_STORE, store)])
