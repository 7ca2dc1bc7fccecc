"""An archive (pynetdicom): archive.py PORT FOLDER [--refuse UID,UID] [--find yes|no|later] [--commitment same|later|fail] [--call FILE]
[--hang] [--status A700,...] [--tls KEY CERTIFICATE ROOT]

Keeps what it takes in FOLDER, in the order in which it came, as <n>-<SOP Instance UID>.dcm. --refuse: takes none of these SOP classes.
--find: answers C-FIND at the level of the image, `no` as if it had nothing, `later` nothing at first. --commitment: reports on the same
association, or `later` on one of its own to the `AE host port` that FILE names; `fail` reports that it lacks the object. --status: what the
first C-STOREs are answered, in turn. --hang: never answers a C-STORE. --tls: over TLS, with callers whose certificate ROOT has signed.
"""

import argparse
import pathlib
import ssl
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--refuse", default="")
parser.add_argument("--find")
parser.add_argument("--commitment")
parser.add_argument("--call", type=pathlib.Path)
parser.add_argument("--hang", action="store_true")
parser.add_argument("--status", default="")
parser.add_argument("--tls", nargs=3)
arguments = parser.parse_args()
statuses = [int(status, 16) for status in arguments.status.split(",") if status]
kept = {}
finds = 0


def store(event):
    if arguments.hang:
        time.sleep(3600)
    if statuses:
        return statuses.pop(0)
    uid = event.request.AffectedSOPInstanceUID
    kept[uid] = event.request.AffectedSOPClassUID
    with open(arguments.folder / f"{len(kept):03}-{uid}.dcm", "wb") as file:
        file.write(event.encoded_dataset())
    return 0x0000


def find(event):
    global finds
    finds += 1
    uid = event.identifier.SOPInstanceUID
    late = arguments.find == "later" and finds == 1
    if uid in kept and arguments.find != "no" and not late:
        found = Dataset()
        found.QueryRetrieveLevel = "IMAGE"
        found.SOPInstanceUID = uid
        found.StudyInstanceUID = event.identifier.StudyInstanceUID
        yield 0xFF00, found


def report(asked):
    data = Dataset()
    data.TransactionUID = asked.TransactionUID
    if arguments.commitment == "fail":
        for item in asked.ReferencedSOPSequence:
            item.FailureReason = 0x0112
        data.FailedSOPSequence = asked.ReferencedSOPSequence
        return 2, data
    data.ReferencedSOPSequence = asked.ReferencedSOPSequence
    return 1, data


def call_later(asked):
    time.sleep(0.5)
    title, host, port = arguments.call.read_text().split()
    ae = AE(ae_title="ARCHIVE")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate(host, int(port), ae_title=title, ext_neg=[role])
    if not association.is_established:
        print("the node refused the association", flush=True)
        return
    kind, data = report(asked)
    status, _ = association.send_n_event_report(data, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    print(f"reported: {status.Status:04X}", flush=True)
    association.release()


def action(event):
    asked = event.action_information
    if arguments.commitment == "later":
        threading.Thread(target=call_later, args=[asked]).start()
    else:
        threading.Thread(target=same, args=[event.assoc, asked]).start()
    return 0x0000, None


def same(association, asked):
    time.sleep(0.3)
    kind, data = report(asked)
    association.send_n_event_report(data, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)


ae = AE(ae_title="ARCHIVE")
ae.supported_contexts = [c for c in StoragePresentationContexts if c.abstract_syntax not in arguments.refuse.split(",")]
for uid in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.11"):
    if uid not in arguments.refuse.split(","):
        ae.add_supported_context(uid)
ae.add_supported_context(Verification)
if arguments.find:
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
if arguments.commitment:
    ae.add_supported_context(StorageCommitmentPushModel)
handlers = [(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, find), (evt.EVT_N_ACTION, action)]
context = None
if arguments.tls:
    key, certificate, root = arguments.tls
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=root)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
ae.start_server(("127.0.0.1", arguments.port), block=True, evt_handlers=handlers, ssl_context=context)
