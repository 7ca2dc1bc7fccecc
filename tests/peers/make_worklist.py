"""Writes a worklist item for DCMTK's wlmscpfs.

    make_worklist.py FILE [keyword=value ...]
"""

import sys

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def main():
    file, *pairs = sys.argv[1:]
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.AccessionNumber = "ACC-774411"
    ds.PatientName = "Zyxwv^Quentin"
    ds.PatientID = "PID-998877"
    ds.PatientBirthDate = "20210630"
    ds.PatientSex = "M"
    ds.StudyInstanceUID = "1.2.3.4.5"
    ds.RequestingPhysician = "Park^Jiwoo"
    ds.RequestedProcedureDescription = "Chest AP"
    ds.RequestedProcedureID = "RP-5"
    ds.ReasonForTheRequestedProcedure = "기침, seit Montag"
    ds.RequestedProcedurePriority = "STAT"
    ds.CurrentPatientLocation = "ER 2"
    ds.PlacerOrderNumberImagingServiceRequest = "PL-77"
    step = Dataset()
    step.Modality = "CR"
    step.ScheduledStationAETitle = "CR1"
    step.ScheduledProcedureStepStartDate = "20260302"
    step.ScheduledProcedureStepStartTime = "101400"
    step.ScheduledPerformingPhysicianName = ""
    step.ScheduledProcedureStepDescription = "Chest"
    step.ScheduledProcedureStepID = "SPS-5"
    ds.ScheduledProcedureStepSequence = [step]
    for pair in pairs:
        keyword, value = pair.split("=", 1)
        setattr(step if keyword == "Modality" else ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6"
    ds.save_as(file, enforce_file_format=True)


main()
