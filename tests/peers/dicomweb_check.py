"""Stores, searches and retrieves over DICOMweb with dicomweb-client, and compares with pydicom.

    dicomweb_check.py URL FILE...

Ends with an AssertionError that names what differs.
"""

import io
import sys

import numpy as np
import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian

BULK = ("OB", "OW", "OD", "OF", "OL", "UN", "SQ", "OB or OW", "US or SS")


def data_set(part10):
    """The bytes after the file meta information."""
    file = io.BytesIO(part10)
    file.seek(132)
    pydicom.filereader._read_file_meta_info(file)
    return file.read()


def values(element):
    """The values of an element in a form that compares."""
    found = element.value
    found = [] if found in (None, "") else np.atleast_1d(np.array(found, dtype=object)).ravel()
    if element.VR in ("DS", "FL", "FD", "IS"):
        return [float(value) for value in found]
    return [str(value).strip(" \0") for value in found]


def check_metadata(name, ds, found):
    found = pydicom.Dataset.from_json(found, bulk_data_uri_handler=lambda uri: None)
    for element in ds:
        skipped = element.tag.element == 0 or element.tag.group >= 0x7FE0
        if skipped or element.VR in BULK or element.tag == 0x00080005:
            continue
        assert element.tag in found, f"{name}: metadata lacks {element.tag}"
        same = values(element) == values(found[element.tag])
        if element.VR in ("DS", "FL", "FD"):
            same = np.allclose(values(element), values(found[element.tag]), equal_nan=True)
        assert same, f"{name}: metadata differs in {element.tag}"


def check_pixels(name, client, ds, ids):
    lossless_grey = ds.SamplesPerPixel == 1
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    numbers = [1] if frames == 1 else [frames, 1]
    got = client.retrieve_instance_frames(*ids, numbers)
    assert len(got) == len(numbers), name
    pixels = ds.pixel_array
    for number, frame in zip(numbers, got):
        wanted = pixels if frames == 1 else pixels[number - 1]
        if lossless_grey:
            assert frame == wanted.tobytes(), f"{name}: frame {number} differs"
        else:
            assert len(frame) == wanted.nbytes, f"{name}: frame {number} has another size"
    jpeg = client.retrieve_instance_rendered(*ids)
    assert jpeg[:2] == b"\xff\xd8", f"{name}: rendered is no JPEG"
    png = client.retrieve_instance_frames_rendered(*ids, [1], media_types=("image/png",))
    assert png[:4] == b"\x89PNG", f"{name}: rendered is no PNG"


def check_instance(url, client, file):
    name = file.rsplit("/", 1)[-1]
    raw = open(file, "rb").read()
    ds = pydicom.dcmread(io.BytesIO(raw))
    study, series, sop = ids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    at = f"{url}/studies/{study}/series/{series}/instances/{sop}"

    # Bytes as they were sent, by itself and in parts.
    got = requests.get(at, headers={"Accept": "application/dicom"}, timeout=30)
    assert got.status_code == 200 and data_set(got.content) == data_set(raw), f"{name}: other bytes"
    etag = got.headers["ETag"]
    again = requests.get(
        at, headers={"Accept": "application/dicom", "If-None-Match": etag}, timeout=30
    )
    assert again.status_code == 304, f"{name}: {again.status_code} with its ETag"
    assert got.headers["Cache-Control"].startswith("private"), name
    syntax = 'multipart/related; type="application/dicom"; transfer-syntax="*"'
    got = requests.get(at, headers={"Accept": syntax}, timeout=30)
    assert data_set(raw) in got.content, f"{name}: other bytes in parts"
    parsed = client.retrieve_instance(*ids)
    assert parsed.SOPInstanceUID == sop, name

    check_metadata(name, ds, client.retrieve_instance_metadata(*ids))
    found = client.search_for_instances(study, series, search_filters={"SOPInstanceUID": sop})
    assert [one["00080018"]["Value"][0] for one in found] == [sop], f"{name}: not found"
    if "Rows" in ds:
        assert found[0]["00280010"]["Value"] == [ds.Rows], name
    if "PixelData" not in ds:
        none = requests.get(f"{at}/frames/1", timeout=30)
        assert none.status_code == 404, f"{name}: {none.status_code} for a frame of no image"
        return
    check_pixels(name, client, ds, ids)
    thumbnail = requests.get(f"{at}/thumbnail", timeout=30)
    assert thumbnail.content[:2] == b"\xff\xd8", f"{name}: no thumbnail"
    beyond = requests.get(f"{at}/frames/999999", timeout=30)
    assert beyond.status_code == 404, f"{name}: {beyond.status_code} for a frame beyond the last"
    if ds.SamplesPerPixel == 1:
        plain = {"Accept": f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"}
        got = requests.get(at, headers=plain, timeout=30)
        again = pydicom.dcmread(io.BytesIO(got.content))
        assert again.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian, name
        assert np.array_equal(again.pixel_array, ds.pixel_array), f"{name}: other pixels"
        assert again.get("PatientName") == ds.get("PatientName"), name


def main(url, files):
    client = DICOMwebClient(url)
    data_sets = [pydicom.dcmread(file) for file in files]
    # As they are, in one request; and again as the client writes them.
    parts = [b"--p\r\nContent-Type: application/dicom\r\n\r\n" + open(f, "rb").read() for f in files]
    body = b"\r\n".join([*parts, b"--p--\r\n"])
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=p'}
    answer = requests.post(f"{url}/studies", data=body, headers=kind, timeout=60)
    assert answer.status_code == 200, answer.text
    answer = client.store_instances(data_sets)
    assert len(answer.ReferencedSOPSequence) == len(files), answer
    assert "FailedSOPSequence" not in answer, answer

    studies = {ds.StudyInstanceUID for ds in data_sets}
    found = client.search_for_studies()
    assert {one["0020000D"]["Value"][0] for one in found} == studies, "a study is missing"
    for one in found:
        uid = one["0020000D"]["Value"][0]
        mine = [ds for ds in data_sets if ds.StudyInstanceUID == uid]
        series = {ds.SeriesInstanceUID for ds in mine}
        modalities = {ds.Modality for ds in mine}
        assert one["00201208"]["Value"] == [len(mine)] and one["00201206"]["Value"] == [len(series)]
        assert set(one["00080061"]["Value"]) == modalities, one["00080061"]
        found_series = client.search_for_series(uid)
        assert {s["0020000E"]["Value"][0] for s in found_series} == series
        assert len(client.search_for_instances(uid)) == len(mine)
        assert len(client.retrieve_study_metadata(uid)) == len(mine)
        assert len(client.retrieve_study(uid)) == len(mine)
    assert len(client.search_for_series()) >= len(studies)
    assert len(client.search_for_instances()) == len(files)
    first = data_sets[0]
    for filters in (
        {"PatientID": first.PatientID},
        {"PatientName": f"{str(first.PatientName)[:3].lower()}*", "PatientID": first.PatientID},
        {"StudyDate": f"{first.StudyDate}-{first.StudyDate}"},
        {"StudyInstanceUID": f"1.2.3,{first.StudyInstanceUID}"},
        {"ModalitiesInStudy": first.Modality, "StudyDate": first.StudyDate},
    ):
        found = client.search_for_studies(search_filters=filters)
        uids = [one["0020000D"]["Value"][0] for one in found]
        assert first.StudyInstanceUID in uids, (filters, uids)
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    limited = client.search_for_studies(limit=1)
    rest = client.search_for_studies(offset=1)
    assert len(limited) == 1 and len(rest) == len(studies) - 1
    assert limited[0]["0020000D"] not in [one["0020000D"] for one in rest]

    for file in files:
        check_instance(url, client, file)
    print(f"{len(files)} instances of {len(studies)} studies")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
