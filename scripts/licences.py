"""The licences of all that is linked into the program: scripts/licences.py [FOLDER]

Reads `cargo metadata` and says on standard output which licences there are and how often. With a
folder, writes dependencies.txt (a table) and licences.txt (their texts, each once) into it. Exit code
1 when one is not free, or not known here.
"""

import collections
import hashlib
import json
import pathlib
import re
import subprocess
import sys

# Free by the Debian guidelines, and none asks for more than its notice.
FREE = {"0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
        "CC0-1.0", "IJG", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib"}
TEXTS = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def linked():
    """Packages that the program itself needs, on this machine's kind; without those of builds and tests."""
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    found = json.loads(subprocess.check_output(command))
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    seen, waiting = set(), [found["resolve"]["root"]]
    while waiting:
        this = waiting.pop()
        if this not in seen:
            seen.add(this)
            for needed in nodes[this]["deps"]:
                if any(kind["kind"] is None for kind in needed["dep_kinds"]):
                    waiting.append(needed["pkg"])
    seen.discard(found["resolve"]["root"])
    return sorted((p for p in found["packages"] if p["id"] in seen), key=lambda p: (p["name"], p["version"]))


def is_free(expression):
    """Of an SPDX expression: of each part that AND joins, one that OR joins. A slash is an old OR."""
    words = re.sub(r"\s*/\s*", " OR ", expression or "")
    words = re.sub(r"[A-Za-z0-9.+-]+( WITH [A-Za-z0-9.-]+)?",
                   lambda m: m[0] if m[0] in ("AND", "OR") else str(m[0] in FREE), words)
    known = re.fullmatch(r"[()\s]*(True|False|AND|OR|[()\s])+", words)
    return bool(known) and eval(words.replace("AND", "and").replace("OR", "or"))


def main():
    packages = linked()
    bad = [p for p in packages if not is_free(p["license"])]
    for package in bad:
        print(f"error: {package['name']} {package['version']}: {package['license']!r} is not known to be free",
              file=sys.stderr)
    for licence, count in collections.Counter(p["license"] for p in packages).most_common():
        print(f"{count:4} {licence}")
    if len(sys.argv) > 1:
        out = pathlib.Path(sys.argv[1])
        rows = [f"{p['name']:<36} {p['version']:<22} {p['license']}" for p in packages]
        (out / "dependencies.txt").write_text("\n".join(rows) + "\n")
        texts = collections.defaultdict(list)
        for package in packages:
            folder = pathlib.Path(package["manifest_path"]).parent
            files = (f for f in folder.rglob("*") if TEXTS.match(f.name) and f.is_file() and f.suffix not in (".rs", ".py"))
            # Not every package holds the text.
            named = f"{package['name']} {package['version']}: {package['license']}, {', '.join(package['authors'])}"
            texts[b""].append((named, "All packages, with licence and authors."))
            for file in sorted(files):
                text = file.read_text(errors="replace").strip()
                name = f"{package['name']} {package['version']}: {file.relative_to(folder)}"
                texts[hashlib.sha256(text.encode()).digest()].append((name, text))
        whole = []
        for same in texts.values():
            whole += ["=" * 80, *(name for name, _ in same), "-" * 80, same[0][1], ""]
        (out / "licences.txt").write_text("\n".join(whole))
    sys.exit(bool(bad))


main()
