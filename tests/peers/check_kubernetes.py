"""Kubernetes manifests against the API's own schemas, and what they name against what there is.

Usage: check_kubernetes.py FOLDER VERSION, FOLDER with a kustomization.yaml. Ends with 1 and a line for
each problem.
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml


def documents(folder, problems):
    """The manifests of a kustomization and of those below it, and the names that it generates."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found, generated = [], {one["name"] for one in kustomization.get("configMapGenerator", [])}
    for generator in kustomization.get("configMapGenerator", []):
        problems += [f"{file}: no such file" for file in generator["files"] if not (folder / file).is_file()]
    for name in kustomization["resources"]:
        path = folder / name
        if path.is_dir():
            below, also = documents(path.resolve(), problems)
            found, generated = found + below, generated | also
        else:
            found += [(path.name, one) for one in yaml.safe_load_all(path.read_text()) if one]
    return found, generated


def main():
    folder, version = Path(sys.argv[1]), sys.argv[2]
    problems = []
    found, generated = documents(folder, problems)
    sets = {one["metadata"]["name"]: one for _, one in found if one["kind"] == "StatefulSet"}
    for name, document in found:
        # Of an extension: not in the API's own schemas.
        if document["kind"] == "VerticalPodAutoscaler":
            target = sets.get(document["spec"]["targetRef"]["name"])
            pod = target["spec"]["template"]["spec"] if target else {"containers": []}
            there = {container["name"] for container in pod["containers"]}
            named = {one["containerName"] for one in document["spec"]["resourcePolicy"]["containerPolicies"]}
            problems += [f"{name}: no container {one}" for one in named - there]
            continue
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{name}: {document['kind']}: {error.message}")
    for name, document in found:
        if document["kind"] != "StatefulSet":
            continue
        pod = document["spec"]["template"]["spec"]
        volumes = {one["name"] for one in pod["volumes"]}
        volumes |= {one["metadata"]["name"] for one in document["spec"]["volumeClaimTemplates"]}
        for volume in pod["volumes"]:
            config = volume.get("configMap", {}).get("name")
            if config and config not in generated:
                problems.append(f"{name}: nobody makes the ConfigMap {config}")
        for container in pod["containers"]:
            ports = {port["name"] for port in container["ports"]}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            problems += [f"{name}: no volume {one}" for one in mounted - volumes]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if container[probe]["httpGet"]["port"] not in ports:
                    problems.append(f"{name}: {probe} asks at no port")
    labels = [one["spec"]["template"]["metadata"]["labels"] for _, one in found if one["kind"] == "StatefulSet"]
    for name, document in found:
        if document["kind"] == "Service":
            wanted = document["spec"]["selector"].items()
            if not any(wanted <= have.items() for have in labels):
                problems.append(f"{name}: the Service {document['metadata']['name']} finds no pod")
    print("\n".join(problems) or f"{len(found)} manifests")
    return 1 if problems else 0


sys.exit(main())
