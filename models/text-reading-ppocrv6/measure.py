"""How much burned-in text is found, and how much anatomy is taken for text, by kind of picture.

    .venv/bin/python models/text-reading-ppocrv6/measure.py FOLDER [--lines 1500] [--keep PICTURES]

FOLDER holds DICOM files of any kind. Each is drawn as it is, CT also in four windows: what is found there is a false
alarm, but on files that show real text (--texts). Then lines are drawn on the same pictures, one on each, and --tilted
names at each of some angles. The program's own test `deid::text::tests::measured` looks at all of them.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import tempfile

import numpy
import pydicom
from PIL import Image, ImageDraw, ImageFont

ROOT = pathlib.Path(__file__).resolve().parents[2]
FONTS = {
    "latin": [f"/usr/share/fonts/truetype/dejavu/DejaVu{name}.ttf" for name in ("Sans", "SansMono", "Serif-Bold")],
    "cjk": [f"/usr/share/fonts/opentype/noto/Noto{name}.ttc" for name in ("SansCJK-Regular", "SansCJK-Bold", "SerifCJK-Bold")],
}
WORDS = {
    "name": ["DOE JANE", "SMITH^JOHN A", "Mr. Brown", "GARCIA MARIA F 054Y", "St. Mary Hospital", "WILSON", "Lee"],
    "number": ["ID 00482917", "PID: 7731-204", "A20394857", "MRN 5520913", "48213"],
    "date": ["2024-03-17", "17/03/2024 14:22", "DOB 1957.11.02", "12 MAR 1961"],
    "korean": ["김민수", "홍길동 남 54세", "서울대학교병원", "박지영 1962.04.11", "이서연"],
    "vietnamese": ["Nguyễn Văn Hùng", "Trần Thị Mai", "BV Chợ Rẫy", "Lê Quốc Khánh 1970"],
    "chinese": ["王小明", "李华 男 54岁", "北京协和医院", "张伟 1962年4月"],
    "marker": ["L", "R"],
}
SIZES = [8, 10, 13, 18, 26, 40]
STYLES = ["white", "grey", "outline", "black", "bar"]
ANGLES = [5, 10, 20, 30, 45, 90, 180, 270]
WINDOWS = {"brain": (40, 80), "subdural": (80, 200), "bone": (600, 2800), "lung": (-600, 1500)}
RADIOGRAPHS = {"CR", "DX", "RG", "MG"}


def shown(values, low, high):
    return numpy.clip((values - low) / max(high - low, 1) * 255, 0, 255).astype(numpy.uint8)


def first(value):
    return float(value if isinstance(value, (str, float, int)) else getattr(value, "real", None) or value[0])


def pictures(path):
    """Name and picture of each window of a file."""
    data = pydicom.dcmread(path)
    pixels = data.pixel_array
    if pixels.ndim == 4 or (pixels.ndim == 3 and data.SamplesPerPixel == 1):
        pixels = pixels[len(pixels) // 2]
    if "PALETTE" in data.PhotometricInterpretation:
        pixels = pydicom.pixels.apply_color_lut(pixels, data)
        pixels = (pixels // 256).astype(numpy.uint8) if pixels.dtype != numpy.uint8 else pixels
    if pixels.ndim == 3:
        return [("own", Image.fromarray(pixels))]
    values = pydicom.pixels.apply_modality_lut(pixels, data).astype(float)
    try:
        centre, width = first(data.WindowCenter), first(data.WindowWidth)
        low, high = centre - width / 2, centre + width / 2
    except (AttributeError, TypeError):
        low, high = numpy.percentile(values, [1, 99])
    own = shown(values, low, high)
    if data.PhotometricInterpretation == "MONOCHROME1":
        own = 255 - own
    made = [("own", Image.fromarray(own))]
    if data.Modality == "CT" and "RescaleSlope" in data:
        for name, (centre, width) in WINDOWS.items():
            made.append((name, Image.fromarray(shown(values, centre - width / 2, centre + width / 2))))
    return made


def kind(path):
    modality = pydicom.dcmread(path, stop_before_pixels=True).get("Modality", "")
    if "cat_" in path.name:
        return "radiograph of an animal"
    if modality in RADIOGRAPHS:
        return "radiograph"
    return modality if modality in ("CT", "MR", "US") else "other"


def draw(picture, name):
    """One line on a copy; where it stands. None where it finds no room."""
    picture = picture.convert("L")
    words = random.choice(list(WORDS))
    text, size, style = random.choice(WORDS[words]), random.choice(SIZES), random.choice(STYLES)
    if words in ("korean", "chinese", "vietnamese"):
        size = max(size, 11)
    font = ImageFont.truetype(random.choice(FONTS["cjk" if words in ("korean", "chinese") else "latin"]), size)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left, bottom - top
    columns, rows = picture.size
    if width > columns - 8 or height > rows - 8:
        return None
    corner = random.choice(["corner", "corner", "over"])
    if corner == "corner":
        x, y = random.choice([4, columns - width - 4]), random.choice([4, rows - height - 4])
    else:
        x = random.randint(4, columns - width - 4)
        y = random.randint(min(rows // 4, rows - height - 4), max(min(3 * rows // 4, rows - height - 4), rows // 4))
    under = float(numpy.asarray(picture)[y : y + height, x : x + width].mean())
    if style == "black" and under < 70:
        style = "white"
    if (style == "grey" and abs(under - 150) < 60) or (style == "white" and under > 195):
        style = "outline"
    at = (x - left, y - top)
    if style == "bar":
        pen.rectangle([x - 3, y - 3, x + width + 3, y + height + 3], fill=0)
    stroke = {"stroke_width": 1, "stroke_fill": 0} if style == "outline" else {}
    pen.text(at, text, font=font, fill={"grey": 150, "black": 0}.get(style, 255), **stroke)
    return picture, {"words": words, "text": text, "size": size, "style": style, "place": corner, "base": name,
                     "box": [x, y, x + width, y + height]}


def draw_tilted(picture, name, angle):
    """A name that is tilted clockwise, on a copy; None where it finds no room."""
    picture = picture.convert("L")
    words = random.choice(["name", "name", "name", "vietnamese", "chinese", "korean"])
    text, size = random.choice(WORDS[words]), random.choice([13, 18, 26, 34])
    font = ImageFont.truetype(random.choice(FONTS["cjk" if words in ("korean", "chinese") else "latin"]), size)
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((0, 0), text, font=font, stroke_width=1)
    layers = []
    for stroke in (1, 0):
        layer = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(layer).text((-left, -top), text, font=font, fill=255, stroke_width=stroke)
        layers.append(layer.rotate(-angle, Image.Resampling.BICUBIC, expand=True))
    edge, ink = layers
    room = [whole - own - 8 for whole, own in zip(picture.size, ink.size)]
    if min(room) < 0:
        return None
    at = tuple(4 + random.randint(0, free) for free in room)
    picture.paste(0, at, edge)
    picture.paste(255, at, ink)
    whole = Image.new("L", picture.size)
    whole.paste(255, at, ink)
    return picture, {"words": words, "text": text, "size": size, "angle": angle, "base": name}, whole


def looked_at(folder):
    command = ["cargo", "test", "--lib", "deid::text::tests::measured", "--", "--ignored", "--nocapture"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PRELIM_TEXT": str(folder)}, capture_output=True, check=True)
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("{")]
    return {line["file"]: line for line in map(json.loads, lines)}


def black(boxes, size):
    covered = Image.new("1", size)
    for corners in boxes:
        ImageDraw.Draw(covered).polygon([tuple(corner) for corner in corners], fill=1)
    return numpy.asarray(covered)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--tilted", type=int, default=20)
    parser.add_argument("--texts", default="us/,vl-endoscopy/,SC1,MG1", help="parts of the paths of files that show text")
    parser.add_argument("--each", type=int, default=1, help="one of so many files of a folder")
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    random.seed(7)
    texts = options.texts.split(",")
    work = options.keep or pathlib.Path(tempfile.mkdtemp())
    clean, drawn, tilted = work / "clean", work / "drawn", work / "tilted"
    clean.mkdir(parents=True), drawn.mkdir(), tilted.mkdir()
    bases, kinds, in_folder = {}, {}, collections.Counter()
    for path in sorted(options.folder.rglob("*.dcm")):
        in_folder[path.parent] += 1
        if (in_folder[path.parent] - 1) % options.each:
            continue
        try:
            made = pictures(path)
        except Exception as error:
            print("left out:", path.name, type(error).__name__)
            continue
        for window, picture in made:
            if max(picture.size) > 1280:
                picture.thumbnail((1280, 1280))
            name = f"{len(bases):04}-{path.stem[:30]}-{window}.png"
            bases[name], kinds[name] = picture, kind(path)
            if any(part in str(path) for part in texts):
                kinds[name] += " with text"
            picture.save(clean / name)
    lines, plain = {}, [name for name in bases if not kinds[name].endswith("with text")]
    while len(lines) < options.lines:
        base = random.choice(plain)
        done = draw(bases[base], base)
        if done:
            name = f"{len(lines):05}.png"
            done[0].save(drawn / name)
            lines[name] = done[1]
    slanted, inks = {}, {}
    for angle in ANGLES:
        while sum(line["angle"] == angle for line in slanted.values()) < options.tilted:
            base = random.choice(plain)
            done = draw_tilted(bases[base], base, angle)
            if done:
                name = f"{len(slanted):05}.png"
                done[0].save(tilted / name)
                slanted[name], inks[name] = done[1], numpy.asarray(done[2]) > 127
    found = looked_at(clean)
    print("\nkind | pictures | with a box | boxes: text, unsure, detector alone | % masked: mean, most | % detector alone | ms")
    for one in sorted(set(kinds.values())):
        names = [name for name in bases if kinds[name] == one]
        holds, shares, alone, with_box, ms = collections.Counter(), [], [], 0, []
        for name in names:
            boxes = found[name]["boxes"]
            masked = [box["corners"] for box in boxes if box["holds"] in ("Text", "Perhaps")]
            holds.update(box["holds"] for box in boxes)
            with_box += bool(masked)
            shares.append(100 * black(masked, bases[name].size).mean())
            alone.append(100 * black([box["corners"] for box in boxes], bases[name].size).mean())
            ms.append(found[name]["ms"])
        print(f"{one} | {len(names)} | {with_box} | {holds['Text']}, {holds['Perhaps']}, {sum(holds.values())} | "
              f"{numpy.mean(shares):.2f}, {max(shares):.1f} | {numpy.mean(alone):.1f}, {max(alone):.0f} | {numpy.median(ms):.0f}")
        for name in names:
            for box in found[name]["boxes"]:
                if box["holds"] in ("Text", "Perhaps") and not one.endswith("with text"):
                    print("    ", name, box)
    found = looked_at(drawn)
    counts = collections.defaultdict(lambda: [0, 0, 0, 0])
    for name, line in lines.items():
        x0, y0, x1, y1 = line["box"]
        size = bases[line["base"]].size
        covered = [
            black([box["corners"] for box in found[name]["boxes"] if box["holds"] in holds], size)[y0:y1, x0:x1].mean()
            for holds in (("Text",), ("Text", "Perhaps"), ("Text", "Perhaps", "Marker", "Nothing"))
        ]
        for group in ("words", "size", "style", "place"):
            if line["words"] == "marker" and group != "words":
                continue
            of = counts[(group, str(line[group]))]
            of[0] += 1
            for at, share in enumerate(covered):
                of[1 + at] += share >= 0.95
    print("\nlines | drawn | masked whole: as text, with unsure | by the detector alone")
    for (group, which), (all_of, text, unsure, alone) in sorted(counts.items()):
        print(f"{group} {which} | {all_of} | {text / all_of:.2f}, {unsure / all_of:.2f} | {alone / all_of:.2f}")
    found = looked_at(tilted)
    counts = collections.defaultdict(list)
    for name, line in slanted.items():
        size = bases[line["base"]].size
        covered = [
            black([box["corners"] for box in found[name]["boxes"] if box["holds"] in holds], size)[inks[name]].mean()
            for holds in (("Text",), ("Text", "Perhaps"), ("Text", "Perhaps", "Marker", "Nothing"))
        ]
        counts[line["angle"]].append(covered)
        print("    ", name, line, [round(float(share), 2) for share in covered])
    print("\ntilted by | drawn | masked whole: as text, with unsure | by the detector alone")
    for angle, all_of in counts.items():
        text, unsure, alone = (numpy.asarray(all_of) >= 0.95).sum(axis=0)
        print(f"{angle} | {len(all_of)} | {text}, {unsure} | {alone}")


if __name__ == "__main__":
    main()
