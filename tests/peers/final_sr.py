"""A doctor's final report of an image: final_sr.py IMAGE OUT KIND [TEXT]

KIND:
  coded        Comprehensive SR of highdicom (TID 1500), verified: Pneumothorax absent
  text         Basic Text SR with TEXT under Findings, verified; an indication stands before it
  preliminary  the same, not verified, flagged as preliminary
  unverified   the same, not verified, and without a word on whether it is final
"""

import sys

import highdicom as hd
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid

PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax")


def coded(image):
    person = hd.sr.ObserverContext(
        observer_type=Code("121006", "DCM", "Person"),
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes("Reader^One"),
    )
    evaluation = hd.sr.QualitativeEvaluation(PNEUMOTHORAX, Code("2667000", "SCT", "Absent"))
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier="1"),
        qualitative_evaluations=[evaluation],
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(person),
        procedure_reported=Code("30745-4", "LN", "XR Chest Views"),
        imaging_measurements=[group],
        title=Code("126000", "DCM", "Imaging Measurement Report"),
    )
    return hd.sr.ComprehensiveSR(
        evidence=[image],
        content=content,
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reporting",
        is_complete=True,
        is_final=True,
        is_verified=True,
        verifying_observer_name="Reader^One",
        verifying_organization="Hospital",
    )


def item(relationship, kind, code, **values):
    ds = Dataset()
    if relationship:
        ds.RelationshipType = relationship
    ds.ValueType = kind
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code
    ds.ConceptNameCodeSequence = [name]
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def text(image, words, is_final, flag):
    sections = [
        (("121109", "DCM", "Indications for Procedure"), "rule out pneumothorax on the right"),
        (("121070", "DCM", "Findings"), words),
    ]
    content = [
        item("CONTAINS", "CONTAINER", code, ContinuityOfContent="SEPARATE",
             ContentSequence=[item("CONTAINS", "TEXT", ("121071", "DCM", "Finding"), TextValue=said)])
        for code, said in sections
    ]
    ds = item(None, "CONTAINER", ("18748-4", "LN", "Diagnostic imaging study"), ContinuityOfContent="SEPARATE",
              ContentSequence=content)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
                    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        setattr(ds, keyword, image.get(keyword, ""))
    ds.SOPClassUID = BasicTextSRStorage
    ds.SOPInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.Manufacturer, ds.SeriesNumber, ds.InstanceNumber = "SR", "Reporting", 901, 1
    ds.ContentDate, ds.ContentTime = "20260105", "120000"
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "VERIFIED" if is_final else "UNVERIFIED"
    if flag:
        ds.PreliminaryFlag = flag
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


image, out, kind = dcmread(sys.argv[1]), sys.argv[2], sys.argv[3]
report = coded(image) if kind == "coded" else text(image, sys.argv[4], kind == "text", {"text": "FINAL", "preliminary": "PRELIMINARY"}.get(kind))
report.save_as(out, enforce_file_format=True)
print(report.SOPInstanceUID)
