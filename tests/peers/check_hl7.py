"""Checks HL7 v2 messages: hl7apy in its strict mode, and what it does not look at.

    check_hl7.py FILE...

Prints one line for each fault; exit code 1 when there is one. hl7apy takes every value of OBX-5 for
an ST of at most 199 characters: longer ones are cut in the copy that it gets.
"""

import base64
import re
import sys

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

PRELIMINARY = "P"


def short(segment):
    fields = segment.split("|")
    if fields[0] != "OBX" or len(fields) < 6 or fields[2] not in ("TX", "FT", "ED"):
        return segment
    parts = fields[5].split("^")
    # An escape sequence that is cut in two would be another fault.
    fields[5] = "^".join(re.sub(r"\\[^\\]*\\", " ", part)[:150] for part in parts)
    return "|".join(fields)


def strict(text):
    copy = "\r".join(short(segment) for segment in text.split("\r"))
    message = parse_message(copy, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    message.validate()


def own(text):
    segments = [segment.split("|") for segment in text.split("\r") if segment]
    header = segments[0]
    for number, value in [(9, "ORU^R01^ORU_R01"), (11, "P"), (12, "2.5.1"), (18, "UNICODE UTF-8")]:
        if header[number - 1] != value:
            yield f"MSH-{number} is {header[number - 1]!r}"
    if not 0 < len(header[9]) <= 20:
        yield "MSH-10 has not 1 to 20 characters"
    first = {fields[0]: fields for fields in reversed(segments)}
    if first["ORC"][3] != first["OBR"][3] or not 0 < len(first["OBR"][3]) <= 22:
        yield "ORC-3 and OBR-3 are not one number of at most 22 characters"
    if first["OBR"][18] and first["OBR"][3] == first["OBR"][18]:
        yield "OBR-3 is the bare accession number"
    if first["OBR"][25] != PRELIMINARY:
        yield "OBR-25 is not P"
    seen = set()
    for count, obx in enumerate((s for s in segments if s[0] == "OBX"), start=1):
        obx += [""] * (20 - len(obx))
        at = f"OBX {count}"
        if obx[1] != str(count):
            yield f"{at}: OBX-1 is {obx[1]}"
        if obx[11] != PRELIMINARY:
            yield f"{at}: OBX-11 is {obx[11]!r}"
        key = (obx[3], obx[4])
        if key in seen:
            yield f"{at}: OBX-3 and OBX-4 stand twice"
        seen.add(key)
        if obx[2] == "NM" and not re.fullmatch(r"[+-]?\d+(\.\d+)?", obx[5]):
            yield f"{at}: {obx[5]!r} is no number"
        if obx[2] == "NM" and "UCUM" not in obx[6]:
            yield f"{at}: a number without unit"
        if obx[2] == "ED":
            if not base64.b64decode(obx[5].split("^")[4], validate=True).startswith(b"%PDF"):
                yield f"{at}: no PDF"
        if not re.fullmatch(r"[^^]+\^\^[0-9.]+\^ISO", obx[18]):
            yield f"{at}: OBX-18 is {obx[18]!r}"
    if re.search(r"[\x00-\x0c\x0e-\x1f\x7f-\x9f]", text):
        yield "a control character"
    if re.search("^OBX[^\r]*Absent", text) and "Finding^DCM||272519000" in text:
        yield "a negative as a value of Finding"


def main():
    faults = 0
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8", newline="") as file:
            text = file.read()
        found = list(own(text))
        try:
            strict(text)
        except HL7apyException as error:
            found.append(f"hl7apy: {type(error).__name__}: {str(error)[:200]}")
        for fault in found:
            faults += 1
            print(f"FAIL {name}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
