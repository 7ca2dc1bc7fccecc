"""Golden values for `dicom::charset`, as Python and pydicom decode them; made once.

make_charsets.py > tests/fixtures/charsets.txt

A line: Specific Character Set, VR, bytes (hexadecimal), text; between them a tab. Where Python's
tables and those of the WHATWG (which browsers and we use) name another twin of the same sign
(fullwidth tilde for wave dash, and so on) the character is left out.
"""

import pathlib
import random

import pydicom
from pydicom import data as pydicom_data

STEP = 7
random.seed(1)


def line(sets, vr, raw, text):
    assert "\t" not in text and "\n" not in text
    print("\\".join(sets), vr, raw.hex(), text, sep="\t")


# The files of pydicom: the name as it stands, and as pydicom reads it.
folder = pathlib.Path(pydicom_data.__file__).parent / "charset_files"
for file in sorted(folder.glob("*.dcm")):
    ds = pydicom.dcmread(file)
    if "PatientName" not in ds:
        continue
    sets = ds.get("SpecificCharacterSet", "")
    sets = [sets] if isinstance(sets, str) else [str(one) for one in sets]
    raw = ds.get_item("PatientName").value
    name = ds["PatientName"]
    text = "\\".join(str(one) for one in name.value) if name.VM > 1 else str(name.value)
    line(sets, "PN", bytes(raw), text)

# Every letter of the upper half of each single-byte set.
SINGLE = {
    100: ("iso8859-1", b"-A"), 101: ("iso8859-2", b"-B"), 109: ("iso8859-3", b"-C"),
    110: ("iso8859-4", b"-D"), 126: ("iso8859-7", b"-F"), 127: ("iso8859-6", b"-G"),
    138: ("iso8859-8", b"-H"), 144: ("iso8859-5", b"-L"), 148: ("iso8859-9", b"-M"),
    166: ("tis-620", b"-T"), 203: ("iso8859-15", b"-b"),
}
for number, (codec, escape) in SINGLE.items():
    raw, text = b"", ""
    for byte in range(0xA1, 0x100):
        try:
            letter = bytes([byte]).decode(codec)
        except UnicodeDecodeError:
            continue
        raw, text = raw + bytes([byte]), text + letter
    line([f"ISO_IR {number}"], "LO", raw, text)
    line(["ISO 2022 IR 6", f"ISO 2022 IR {number}"], "LO", b"a\x1b" + escape + raw, "a" + text)


def pairs(codec, prefix=b"", high=0x80):
    found = []
    for one in range(0x21, 0x7F):
        for two in range(0x21, 0x7F):
            try:
                found.append((bytes([one, two]), (prefix + bytes([one | high, two | high])).decode(codec)))
            except UnicodeDecodeError:
                pass
    return found


TWINS = set("〜‖−¢£¬～∥－￠￡￢~·―・—¦￤")
G0 = lambda raw: raw
G1 = lambda raw: bytes(byte | 0x80 for byte in raw)
for name, number, escape, form, table in [
    ("KS X 1001", 149, b"\x1b$)C", G1, pairs("euc_kr")),
    ("GB 2312", 58, b"\x1b$)A", G1, pairs("gb2312")),
    ("JIS X 0208", 87, b"\x1b$B", G0, pairs("euc_jp")),
    ("JIS X 0212", 159, b"\x1b$(D", G0, pairs("euc_jp", b"\x8f")),
]:
    some = [pair for pair in table if pair[1] not in TWINS][::STEP]
    raw, text = escape, ""
    for code, letter in some:
        raw, text = raw + form(code), text + letter
    line(["", f"ISO 2022 IR {number}"], "UT", raw, text)
    print(f"# {name}: {len(some)} of {len(table)} characters")

katakana = bytes(range(0xA1, 0xE0))
line(["ISO_IR 13"], "LO", katakana, katakana.decode("shift_jis"))

# Without code extensions.
for sets, codec, ranges in [
    ("GB18030", "gb18030", [(0x4E00, 0x9FA5), (0x3400, 0x4DB5), (0x20000, 0x2A6D6), (0xAC00, 0xD7A3)]),
    ("GBK", "gbk", [(0x4E00, 0x9FA5)]),
    ("ISO_IR 192", "utf-8", [(0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x370, 0x3FF), (0x1F600, 0x1F64F)]),
]:
    text = ""
    for low, high in ranges:
        for _ in range(150):
            letter = chr(random.randint(low, high))
            try:
                letter.encode(codec)
            except UnicodeEncodeError:
                continue
            text += letter
    line([sets], "UT", text.encode(codec), text)

# Several sets in one value: each component designates its own again.
E = lambda codec, text: text.encode(codec)
greek = b"\x1b-F" + E("iso8859-7", "Διονύσιος")
cyrillic = b"\x1b-L" + E("iso8859-5", "Люксембург")
korean = b"\x1b$)C" + E("euc_kr", "홍길동")
chinese = b"\x1b$)A" + E("gb2312", "王小东")
japanese = b"\x1b$B" + bytes(b & 0x7F for b in E("euc_jp", "山田太郎")) + b"\x1b(B"
hebrew = b"\x1b-H" + E("iso8859-8", "שרון")
for sets, vr, raw, text in [
    (["ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 144"], "PN",
     E("latin-1", "Buc^Jérôme=") + greek + b"^" + cyrillic, "Buc^Jérôme=Διονύσιος^Люксембург"),
    (["", "ISO 2022 IR 149", "ISO 2022 IR 87"], "PN",
     b"Hong^Gildong=" + korean + b"^" + japanese, "Hong^Gildong=홍길동^山田太郎"),
    (["", "ISO 2022 IR 58", "ISO 2022 IR 149", "ISO 2022 IR 87", "ISO 2022 IR 126"], "LO",
     chinese + b"\\" + korean + b"\\" + japanese + b"\\" + greek, "王小东\\홍길동\\山田太郎\\Διονύσιος"),
    (["ISO 2022 IR 144", "ISO 2022 IR 138"], "LO",
     E("iso8859-5", "Привет ") + hebrew, "Привет שרון"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"], "PN",
     b"\xd4\xcf\xc0\xde=" + japanese + b"\x1b$(D0)\x1b(J", "ﾔﾏﾀﾞ=山田太郎丨"),
]:
    line(sets, vr, raw, text)
