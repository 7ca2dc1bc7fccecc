"""Checks FHIR R4 transaction bundles: fhir.resources (R4B), and what it does not look at.

    check_fhir.py FILE...

Prints one line for each fault; exit code 1 when there is one.
"""

import json
import sys

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

STATUS = {
    "DiagnosticReport": {"preliminary", "partial", "registered"},
    "Observation": {"preliminary", "entered-in-error"},
    "ImagingStudy": {"available"},
    "Device": {"active"},
    "Task": {"requested", "cancelled"},
}


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def faults(bundle):
    """Of a bundle as parsed from JSON."""
    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        for one in error.errors()[:5]:
            yield f"fhir.resources: {'.'.join(map(str, one['loc']))}: {one['msg']}"
        return
    entries = bundle["entry"]
    urls = [entry["fullUrl"] for entry in entries]
    if len(set(urls)) != len(urls):
        yield "a fullUrl stands twice"
    for reference in references(bundle):
        if reference not in urls:
            yield f"{reference} is not in the bundle"
    asked = set()
    for entry in entries:
        resource, request = entry["resource"], entry["request"]
        kind = resource["resourceType"]
        if resource.get("status") not in STATUS.get(kind, {None}):
            yield f"{kind}: status {resource.get('status')!r}"
        condition = request.get("ifNoneExist") or request["url"].partition("?")[2]
        if not condition or "|" not in condition:
            yield f"{kind}: nothing keeps a second one from being made"
        if (kind, condition) in asked:
            yield f"{kind}: two entries with {condition}"
        asked.add((kind, condition))
        labels = [label["code"] for label in resource.get("meta", {}).get("security", [])]
        if kind in ("DiagnosticReport", "Observation", "Task") and "AIAST" not in labels:
            yield f"{kind}: no AIAST"
        if kind == "Task" and "end" not in resource["restriction"]["period"]:
            yield "Task: no time by which"
        if kind == "Observation" and "dataAbsentReason" in resource:
            if any(name.startswith("value") for name in resource):
                yield "Observation: a value, and why there is none"
        elif kind == "Observation":
            value = resource["valueCodeableConcept"]["coding"][0]["code"]
            code = resource["code"]["coding"][0]["code"]
            if code == "59776-5" and value in ("2667000", "272519000"):
                yield "Observation: a negative as a value of finding"
            for component in resource.get("component", []):
                if "valueQuantity" in component and "code" not in component["valueQuantity"]:
                    yield "Observation: a number without unit"
    kinds = [entry["resource"]["resourceType"] for entry in entries]
    for kind in ("DiagnosticReport", "ImagingStudy", "Device", "Provenance"):
        if kinds.count(kind) != 1:
            yield f"{kinds.count(kind)} resources of type {kind}"


def main():
    found = 0
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            bundle = json.load(file)
        for fault in faults(bundle):
            found += 1
            print(f"FAIL {name}: {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
