"""A scanner that asks for storage commitment, as JSON lines on standard output.

commitment.py PORT TRANSACTION CLASS:INSTANCE... [--listen PORT] [--stay SECONDS] [--no-action]
              [--title AE] [--seconds N] [--answer STATUS] [--tls CERT KEY CA]

It sends N-ACTION to PRELIM and prints its status. With --stay it keeps the association and takes
the report there, with --listen it takes it on an association of the node's own; with --tls that is
over TLS 1.2 or 1.3, from callers with a certificate.
"""

import argparse
import json
import ssl
import sys
import time

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, evt, build_role

CLASS = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("transaction")
parser.add_argument("references", nargs="*")
parser.add_argument("--listen", type=int)
parser.add_argument("--stay", type=float, default=0)
parser.add_argument("--no-action", action="store_true")
parser.add_argument("--title", default="CT1")
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--answer", type=lambda text: int(text, 16), default=0)
parser.add_argument("--tls", nargs=3)
args = parser.parse_args()

reports = []


def say(**what):
    print(json.dumps(what), flush=True)


def on_report(event):
    data = event.event_information
    refs = lambda name: [
        [str(i.ReferencedSOPInstanceUID), f"{i.get('FailureReason', 0):04X}"]
        for i in data.get(name, [])
    ]
    same = event.assoc.is_requestor
    if same and not args.stay:
        # It is about to leave; on a busy machine the report can be faster.
        event.assoc.abort()
        return 0x0110, None
    say(
        event=event.event_type,
        transaction=str(data.TransactionUID),
        kept=[uid for uid, _ in refs("ReferencedSOPSequence")],
        failed=refs("FailedSOPSequence"),
        same_association=same,
        calling=event.assoc.requestor.ae_title,
    )
    reports.append(1)
    return args.answer, None


ae = AE(ae_title=args.title)
server = None
if args.listen:
    ae.add_supported_context(CLASS, scu_role=False, scp_role=True)
    context = None
    if args.tls:
        cert, key, ca = args.tls
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(cert, key)
    server = ae.start_server(
        ("127.0.0.1", args.listen),
        block=False,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
        ssl_context=context,
    )
    say(listening=args.listen)
if not args.no_action:
    ae.add_requested_context(CLASS)
    assoc = ae.associate(
        "127.0.0.1", args.port, ae_title="PRELIM", evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    if not assoc.is_established:
        say(error="no association")
        sys.exit(1)
    wanted = Dataset()
    wanted.TransactionUID = args.transaction
    wanted.ReferencedSOPSequence = Sequence()
    for reference in args.references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.split(":")
        wanted.ReferencedSOPSequence.append(item)
    status, _ = assoc.send_n_action(wanted, 1, CLASS, INSTANCE)
    say(status=f"{status.Status:04X}" if "Status" in status else None,
        comment=status.get("ErrorComment", ""))
    end = time.time() + args.stay
    while time.time() < end and not reports:
        time.sleep(0.05)
    time.sleep(0.1)
    assoc.release()
end = time.time() + args.seconds
while args.listen and not reports and time.time() < end:
    time.sleep(0.05)
time.sleep(0.1)
if server:
    server.shutdown()
