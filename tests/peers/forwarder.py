"""An archive that sends everything it gets on to a node: forwarder.py PORT FOLDER NODE_PORT

What comes in is kept in FOLDER. Each round sends all that it holds to the node at NODE_PORT, with storescu. FOLDER/rounds.txt
holds how many were sent since the node's first result came.
"""

import pathlib
import subprocess
import sys
import threading
import time

from pynetdicom import AE, StoragePresentationContexts, evt

PORT, FOLDER, NODE = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
held, lock, arrived, answered = [], threading.Lock(), threading.Event(), threading.Event()
EXTRA = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.66.4")


def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    path = FOLDER / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    with lock:
        if str(path) not in held:
            held.append(str(path))
    arrived.set()
    if event.assoc.requestor.ae_title.strip() == "PRELIM":
        answered.set()
    return 0x0000


def send_all():
    with lock:
        paths = list(held)
    sent = ["storescu", "-aet", "ARCHIVE", "-aec", "PRELIM", "-R", "-xs", "127.0.0.1", NODE, *paths]
    return subprocess.run(sent, stdout=subprocess.DEVNULL, check=False).returncode == 0


def forward():
    sent = 0
    arrived.wait()
    while True:
        counts = answered.is_set()
        if send_all() and counts:
            sent += 1
            (FOLDER / "rounds.txt").write_text(str(sent))
        time.sleep(0.2)


threading.Thread(target=forward, daemon=True).start()
ae = AE(ae_title="ARCHIVE")
ae.supported_contexts = StoragePresentationContexts
for uid in EXTRA:
    ae.add_supported_context(uid)
ae.start_server(("127.0.0.1", PORT), block=True, evt_handlers=[(evt.EVT_C_STORE, store)])
