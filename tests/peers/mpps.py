"""A modality that tells of a performed procedure step, one JSON line for each answer.

mpps.py PORT STEP STUDY[,STUDY] ACTION...

ACTION: create, progress, complete, discontinue; after a colon the instances: complete:1.2.3,1.2.4
"""

import json
import sys

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE

CLASS = "1.2.840.10008.3.1.2.3.3"

port, step, studies = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
study = studies[0]
ae = AE(ae_title="CT1")
ae.add_requested_context(CLASS)
assoc = ae.associate("127.0.0.1", port, ae_title="PRELIM")
assert assoc.is_established


def series(instances):
    item = Dataset()
    item.SeriesInstanceUID = study + ".1"
    item.ProtocolName = "Head"
    item.ReferencedImageSequence = Sequence()
    for uid in instances:
        image = Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        image.ReferencedSOPInstanceUID = uid
        item.ReferencedImageSequence.append(image)
    return Sequence([item])


for action in sys.argv[4:]:
    name, _, uids = action.partition(":")
    ds = Dataset()
    if name == "create":
        ds.PerformedProcedureStepStatus = "IN PROGRESS"
        ds.Modality = "CT"
        ds.PerformedProcedureStepID = "1"
        ds.PerformedStationAETitle = "CT1"
        ds.ScheduledStepAttributesSequence = Sequence()
        for uid in studies:
            scheduled = Dataset()
            scheduled.StudyInstanceUID = uid
            ds.ScheduledStepAttributesSequence.append(scheduled)
        ds.PerformedSeriesSequence = Sequence()
        status, _ = assoc.send_n_create(ds, CLASS, step or None)
    else:
        words = {"progress": "IN PROGRESS", "complete": "COMPLETED", "discontinue": "DISCONTINUED"}
        ds.PerformedProcedureStepStatus = words[name]
        if uids:
            ds.PerformedSeriesSequence = series(uids.split(","))
        status, _ = assoc.send_n_set(ds, CLASS, step)
    error = status.get("ErrorID")
    print(json.dumps({
        "action": name,
        "status": f"{status.Status:04X}" if "Status" in status else None,
        "comment": status.get("ErrorComment", ""),
        "error_id": None if error is None else f"{error:04X}",
    }), flush=True)
assoc.release()
