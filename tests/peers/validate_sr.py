"""Other people's validators over our result objects, one line for each check, exit 1 on a failure.

Give it a folder with one folder for each study: its results (`*.dcm`) and, below `sources/`, the
images that they name. dciodvfy and dcentvfy see everything. dsrdump and highdicom see every
structured report and key object selection (and their codes are looked up in pydicom's PS3.16 and
our table), and OHIF's adapters every region of them; dcm2pdf, pdfinfo and pdftotext every
Encapsulated PDF, dcmpschk every presentation state, highdicom every segmentation, dcmj2pnm every key image. PixelMed's template validator (15 s of CPU each) sees
the objects named with --pixelmed: study/file, or a study for its Comprehensive 3D SR.

A message is accepted only if it stands in one of the lists below, each with its reason.
"""

import argparse
import concurrent.futures
import csv
import pathlib
import re
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MEASUREMENT_REPORT = tuple(f"1.2.840.10008.5.1.4.1.1.88.{end}" for end in ("22", "33", "34"))
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
GSPS = "1.2.840.10008.5.1.4.1.1.11.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"

# dciodvfy warnings. Any error fails.
DCIODVFY_ACCEPTED = [
    # Sources with a name in one component.
    r"Retired Person Name form",
    # Sources without a weight.
    r"Value is zero",
    # Images of both sides, or of a body part that nobody named.
    r"Laterality.*only permitted to be empty when actually unknown",
    # The device's own word.
    r"BodyPartExamined.*Unrecognized defined term",
    # Sources without a study ID.
    r"needed to build DICOMDIR",
    # IHE AIR asks for it; allowed as a Standard Extended SOP class.
    r"ContributingEquipmentSequence.*DeviceUID.*not present in standard DICOM IOD",
    # Our own coding scheme, identified in Coding Scheme Identification Sequence.
    r"CodingSchemeDesignator.*Unrecognized defined term = <99PRELIM>",
    r"CodingSchemeIdentificationSequence.*CodingSchemeUID.*Unrecognized defined term = <2\.25\.",
]

# PixelMed errors: its context group 100 is from 2019, PS3.16's is extensible.
PIXELMED_ERRORS_ACCEPTED = [r"not found in context group 100"]
# With one region in the whole document it takes every measurement group for a planar one.
PIXELMED_ONE_REGION = [r"^Error: Template 1410 .*Missing conditional content item"]
# PixelMed warnings: its templates know no evaluations but their own.
PIXELMED_NOT_IN_TEMPLATE = [
    r'\(705057003,SCT,"Presence"\)',
    r'\(246112005,SCT,"Severity"\)',
    r'\(111005,DCM,"Assessment Category"\)',
    r'\(130400,DCM,"Geometric purpose of region"\)',
    r'\(122405,DCM,"Algorithm Manufacturer"\)',
    # A side without a site that it could modify.
    r'\(272741003,SCT,"Laterality"\)',
]
# Its TID 2000 has the sections of 2005, which are not LOINC's.
PIXELMED_OLD_SECTIONS = [
    r'\(18748-4,LN,"Diagnostic Imaging Report"\)/CONTAINER '
    r'\((55111-9|59776-5|19005-8|18783-1|55112-7),LN,'
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pixelmed", default="", help="names of studies, with commas")
    arguments.add_argument("folder", type=pathlib.Path)
    arguments = arguments.parse_args()
    to_pixelmed = [name for name in arguments.pixelmed.split(",") if name]

    checks = []
    reports = []
    for study in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        results = sorted(study.glob("*.dcm"))
        sources = sorted(study.glob("sources/*.dcm"))
        checks.append(("dcentvfy", study, lambda r=results, s=sources: dcentvfy(r, s)))
        for result in results:
            checks.append(("dciodvfy", result, lambda r=result: dciodvfy(r)))
            kind = sop_class(result)
            if kind in (*MEASUREMENT_REPORT, BASIC_TEXT_SR, KEY_OBJECTS):
                checks.append(("dsrdump", result, lambda r=result: dsrdump(r)))
                checks.append(("codes", result, lambda r=result: codes(r)))
                names = [f"{study.name}/{result.name}"] + [study.name] * kind.endswith("88.34")
                if any(name in to_pixelmed for name in names):
                    checks.append(("PixelMed", result, lambda r=result: pixelmed(r)))
            if kind in MEASUREMENT_REPORT:
                checks.append(("highdicom", result, lambda r=result: highdicom(r)))
                reports.append(result)
            elif kind == ENCAPSULATED_PDF:
                checks.append(("dcm2pdf", result, lambda r=result: pdf(r)))
            elif kind == GSPS:
                checks.append(("dcmpschk", result, lambda r=result: dcmpschk(r)))
            elif kind == SEGMENTATION:
                checks.append(("highdicom", result, lambda r=result, s=sources: segments(r, s)))
            elif kind == SECONDARY_CAPTURE:
                checks.append(("dcmj2pnm", result, lambda r=result: picture(r)))
            elif kind in (BASIC_TEXT_SR, KEY_OBJECTS):
                pass
            else:
                checks.append(("SOP class", result, lambda k=kind: fail(f"unexpected {k}")))
    if reports:
        checks.append(("OHIF", arguments.folder, lambda: hydrate(reports)))
    if not checks:
        sys.exit(f"no studies in {arguments.folder}")

    # PixelMed takes the longest: first.
    checks.sort(key=lambda check: check[0] != "PixelMed")
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [(check, pool.submit(check[2])) for check in checks]
        for (tool, path, _), outcome in running:
            problems, note = outcome.result()
            failures += bool(problems)
            state = "FAIL" if problems else "ok"
            print(f"{state:4} {tool:9} {path.relative_to(arguments.folder)}  {note}".rstrip())
            for problem in problems[:20]:
                print(f"       {problem}")
    print(f"{len(checks) - failures} of {len(checks)} checks passed")
    sys.exit(1 if failures else 0)


def fail(text):
    return [text], ""


def run(*command):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def matches(line, patterns):
    return any(re.search(pattern, line) for pattern in patterns)


def sop_class(path):
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).SOPClassUID)


def dciodvfy(path):
    code, out, err = run("dciodvfy", "-new", path)
    lines = (out + err).splitlines()
    problems = [line for line in lines if line.startswith("Error")]
    warnings = [line for line in lines if line.startswith("Warning")]
    problems += [line for line in warnings if not matches(line, DCIODVFY_ACCEPTED)]
    if code != 0 and not problems:
        problems.append(f"exit status {code}")
    return problems, f"{len(warnings)} accepted warnings"


def dcentvfy(results, sources):
    _, out, err = run("dcentvfy", *results, *sources)
    lines = (out + err).splitlines()
    problems = [line for line in lines if line.startswith("Error")]
    return problems, f"{len(results)} results, {len(sources)} sources"


def dsrdump(path):
    code, out, err = run("dsrdump", "+Pt", "+Pl", "+Pc", path)
    problems = [line for line in err.splitlines() if line.startswith("E:")]
    if code != 0:
        problems.append(f"exit status {code}")
    return problems, f"{out.count('<')} items"


def segments(path, sources):
    """Each segment as highdicom takes it apart, over the image that it names."""
    program = (
        "import sys, highdicom as hd, pydicom\n"
        "seg = hd.seg.segread(sys.argv[1])\n"
        "named = {str(source.SOPInstanceUID): source for source in map(pydicom.dcmread, sys.argv[2:])}\n"
        "for series, of, uid in seg.get_source_image_uids():\n"
        "    image = named[str(uid)]\n"
        "    number = int(image.get('NumberOfFrames', 1))\n"
        "    if number > 1:\n"
        "        mask = seg.get_pixels_by_source_frame(uid, range(1, number + 1), ignore_spatial_locations=True,\n"
        "            assert_missing_frames_are_empty=True)\n"
        "    else:\n"
        "        mask = seg.get_pixels_by_source_instance([uid], ignore_spatial_locations=True)\n"
        "    assert mask.shape[1:3] == (image.Rows, image.Columns), mask.shape\n"
        "    assert mask.any(axis=(0, 1, 2)).all(), 'an empty segment'\n"
        "print(seg.number_of_segments, 'segments')\n"
    )
    code, out, err = run(sys.executable, "-c", program, path, *sources)
    return ([] if code == 0 else err.strip().splitlines()[-1:]), out.strip()


def highdicom(path):
    program = (
        "import highdicom as hd, sys\n"
        "content = hd.sr.srread(sys.argv[1]).content\n"
        "regions = content.get_planar_roi_measurement_groups()\n"
        "images = content.get_image_measurement_groups()\n"
        "print(len(regions), 'region groups,', len(images), 'image groups')\n"
    )
    code, out, err = run(sys.executable, "-c", program, path)
    return ([err.strip().splitlines()[-1] if err.strip() else "failed"] if code else []), out.strip()


def hydrate(reports):
    code, out, err = run("node", REPOSITORY / "tests/peers/hydrate.mjs", *reports)
    lines = out.splitlines()
    problems = [line for line in lines if not line.startswith("ok")]
    if code != 0 and not problems:
        problems = err.strip().splitlines()[-3:] or [f"exit status {code}"]
    counts = [int(match[1]) for match in map(re.compile(r"(\d+) of").search, lines) if match]
    return problems, f"{sum(counts)} regions of {len(lines)} reports"


def codes(path):
    """Every code against pydicom's PS3.16, our table, or at least its own check digit."""
    import pydicom
    from pydicom.sr._concepts_dict import concepts

    # Not in a DICOM context group; what AIR implementers use.
    known = {("SCT", "705057003"): {"presence"}}
    for scheme, keywords in concepts.items():
        for meanings in keywords.values():
            for value, (meaning, _) in meanings.items():
                known.setdefault((scheme, value), set()).add(meaning.lower())
    with open(REPOSITORY / "src/analysis/finding-codes.csv", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            known.setdefault((row["scheme"], row["code"]), set())
            known.setdefault((row["site_scheme"], row["site_code"]), set())

    problems = []
    found = []

    def walk(dataset):
        for element in dataset:
            if element.VR != "SQ":
                continue
            for item in element.value:
                if "CodingSchemeDesignator" in item and "CodeMeaning" in item:
                    found.append((element.keyword, item))
                walk(item)

    walk(pydicom.dcmread(path))
    for keyword, item in found:
        value = item.get("CodeValue") or item.get("LongCodeValue") or ""
        scheme, meaning = item.CodingSchemeDesignator, item.CodeMeaning
        text = f"({value},{scheme},{meaning!r})"
        if scheme in ("99PRELIM", "UCUM", "RFC5646", "UMLS"):
            continue
        if scheme == "LN":
            if not loinc_digit_is_right(value):
                problems.append(f"{text}: not a LOINC code")
        elif (scheme, value) not in known:
            problems.append(f"{text}: in no table")
        elif scheme == "DCM" and meaning.lower() not in known[scheme, value]:
            problems.append(f"{text}: the code means {known[scheme, value]}")
    return problems, f"{len(found)} codes"


def loinc_digit_is_right(value):
    match = re.fullmatch(r"(\d{1,7})-(\d)", value)
    if not match:
        return False
    digits = [int(digit) for digit in reversed(match.group(1))]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[0::2])
    return (10 - (doubled + sum(digits[1::2])) % 10) % 10 == int(match.group(2))


def pixelmed(path):
    _, listed, _ = run("dpkg", "-L", "libpixelmed-java")
    jar = next(line for line in listed.splitlines() if line.endswith("java/pixelmed.jar"))
    flags = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    validator = "com.pixelmed.validate.DicomSRValidator"
    _, out, err = run("java", "-Xss64m", *flags, "-cp", jar, validator, path)
    lines = (out + err).splitlines()
    regions = run("dsrdump", "+Pc", path)[1].count('SCOORD:(111030,DCM,"Image Region")')
    problems = []
    accepted = 0
    if not any("Found Root Template" in line for line in lines):
        problems.append("no root template found")
    if not any("validation complete" in line for line in lines):
        problems += lines[-3:] or ["nothing said"]
    for line in lines:
        if line.startswith("Error"):
            ok = matches(line, PIXELMED_ERRORS_ACCEPTED)
            ok = ok or (regions == 1 and matches(line, PIXELMED_ONE_REGION))
        elif line.startswith("Warning"):
            item = line.rsplit("/", 1)[-1]
            known = matches(item, PIXELMED_NOT_IN_TEMPLATE) or matches(line, PIXELMED_OLD_SECTIONS)
            ok = line.endswith("Content Item not in template") and known
        else:
            continue
        accepted += ok
        if not ok:
            problems.append(line)
    return problems, f"{accepted} accepted messages"


def dcmpschk(path):
    code, out, err = run("dcmpschk", path)
    said = out + err
    # One block for each attribute. Its checker of value representations knows no UTF-8 and no
    # offset in a DT.
    blocks = re.split(r"(?=^E: Error:)", said, flags=re.MULTILINE)
    blocks = [block for block in blocks if block.startswith("E:")]

    def is_accepted(block):
        value = re.search(r"Attribute value\s*: \[(.*)\]", block)
        return value and (not value[1].isascii() or re.fullmatch(r"\d{14}[+-]\d{4}", value[1]))

    problems = [" ".join(block.split()) for block in blocks if not is_accepted(block)]
    if "Test passed" not in said and not blocks:
        problems.append(f"exit status {code}: {said.strip().splitlines()[-1:]}")
    return problems, f"{len(blocks)} accepted messages"


def picture(path):
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "picture.pnm"
        code, _, err = run("dcmj2pnm", path, target)
        if code != 0 or err.strip():
            return [err.strip() or f"exit status {code}"], ""
        return [], f"{target.stat().st_size} bytes"


def pdf(path):
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "report.pdf"
        code, _, err = run("dcm2pdf", path, target)
        problems = [f"dcm2pdf: {line}" for line in err.splitlines()]
        if code != 0 or not target.exists():
            return problems or [f"dcm2pdf: exit status {code}"], ""
        code, info, err = run("pdfinfo", target)
        if code != 0 or err.strip():
            problems.append(f"pdfinfo: {err.strip() or code}")
        _, text, _ = run("pdftotext", "-layout", target, "-")
        if "PRELIMINARY" not in text.upper():
            problems.append("pdftotext: the pages do not say PRELIMINARY")
        pages = re.search(r"^Pages:\s*(\d+)", info, re.MULTILINE)
        return problems, f"{pages.group(1) if pages else '?'} pages"


main()
