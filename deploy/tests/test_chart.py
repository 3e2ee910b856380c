"""The chart: what it renders, for each file of values in deploy/helm/perennial/ci, and what it refuses."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

from tools import CHECKOUT, needs, program, run

CHART = CHECKOUT / "deploy/helm/perennial"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
# The oldest and the newest version of Kubernetes for which objects are checked.
KUBERNETES = ["1.27", "1.37"]


def template(values, *more):
    """The objects that the chart renders."""
    arguments = ["helm", "template", "release", CHART, "--namespace", "rooms", "--kube-version", "1.33.0"]
    rendered = run(*arguments, "--values", values, *more).stdout
    return [found for found in yaml.safe_load_all(rendered) if found]


def of_kind(objects, kind):
    return [found for found in objects if found["kind"] == kind]


@needs("helm")
class Chart(unittest.TestCase):
    def test_it_is_sound(self):
        for values in VALUES:
            with self.subTest(values.name):
                run("helm", "lint", "--strict", "--quiet", "--values", values, CHART)

    def test_objects_are_those_of_kubernetes(self):
        self.assertEqual(len(VALUES), 8)
        for values in VALUES:
            for found in template(values):
                for version in KUBERNETES:
                    with self.subTest(values.name, kind=found["kind"], version=version):
                        kubernetes_validate.validate(found, version, strict=True)

    def test_each_pipeline_has_its_own_pod_config_and_state(self):
        for values in VALUES:
            with self.subTest(values.name):
                objects = template(values)
                sets = of_kind(objects, "StatefulSet")
                shards = yaml.safe_load(values.read_text()).get("shards") or [{"name": "pipeline"}]
                self.assertEqual(len(sets), len(shards))
                configs = [name for found in of_kind(objects, "ConfigMap") for name in found["data"]]
                claims = {found["metadata"]["name"] for found in of_kind(objects, "PersistentVolumeClaim")}
                states = set()
                for found, shard in zip(sets, shards):
                    spec = found["spec"]["template"]["spec"]
                    self.assertEqual(found["spec"]["replicas"], 1)
                    self.assertNotIn("volumeClaimTemplates", found["spec"])
                    labels = found["spec"]["template"]["metadata"]["labels"]
                    selected = found["spec"]["selector"]["matchLabels"]
                    self.assertLessEqual(selected.items(), labels.items())
                    others = [one for one in sets if one is not found]
                    for other in others:
                        labels = other["spec"]["template"]["metadata"]["labels"]
                        self.assertFalse(selected.items() <= labels.items(), "a set selects another one's pod")
                    self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                    container = spec["containers"][0]
                    self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
                    self.assertIn(f"/etc/perennial/{shard['name']}.yaml", container["args"])
                    if configs:
                        self.assertIn(f"{shard['name']}.yaml", configs)
                    volumes = {volume["name"]: volume for volume in spec["volumes"]}
                    mounted = {mount["name"] for mount in container["volumeMounts"]}
                    self.assertEqual(mounted, set(volumes))
                    state = {key: value for key, value in volumes["state"].items() if key != "name"}
                    states.add(str(state))
                    claim = state.get("persistentVolumeClaim", {}).get("claimName")
                    self.assertTrue(claim is None or claim in claims or claim == "rooms-state", claim)
                self.assertEqual(len(states), len(sets), "two pipelines have one state")

    def test_the_service_and_the_policy_select_all_pods(self):
        objects = template(CHART / "ci/everything-values.yaml")
        service, policy = of_kind(objects, "Service")[0], of_kind(objects, "NetworkPolicy")[0]
        for found in of_kind(objects, "StatefulSet"):
            labels = found["spec"]["template"]["metadata"]["labels"]
            self.assertEqual(found["spec"]["serviceName"], service["metadata"]["name"])
            self.assertLessEqual(service["spec"]["selector"].items(), labels.items())
            self.assertLessEqual(policy["spec"]["podSelector"]["matchLabels"].items(), labels.items())

    def test_an_edge_keeps_its_pod_while_it_is_cut_off(self):
        spec = of_kind(template(CHART / "ci/edge-values.yaml"), "StatefulSet")[0]["spec"]["template"]["spec"]
        tolerated = {toleration["key"]: toleration for toleration in spec["tolerations"]}
        for key in ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]:
            self.assertEqual(tolerated[key]["effect"], "NoExecute")
            self.assertNotIn("tolerationSeconds", tolerated[key])
        self.assertEqual(spec["nodeSelector"], {"node-role.kubernetes.io/edge": "", "site": "hall"})
        self.assertTrue(spec["hostNetwork"])

    def test_the_first_partition_is_one_too(self):
        rendered = template(CHART / "ci/shards-values.yaml", "--set", "shards[0].partitions=0")
        config = of_kind(rendered, "ConfigMap")[0]["data"]["a.yaml"]
        self.assertEqual(yaml.safe_load(config)["kafka"]["partitions"], "0")

    def test_names_leave_room_for_what_kubernetes_adds(self):
        arguments = ["template", "r" * 53, CHART, "--kube-version", "1.33.0"]
        values = CHART / "ci/shards-values.yaml"
        rendered = run("helm", *arguments, "--values", values, "--set", "shards[0].name=twenty-characters-in").stdout
        for found in of_kind([one for one in yaml.safe_load_all(rendered) if one], "StatefulSet"):
            # The label controller-revision-hash is the name and 11 more characters.
            self.assertLessEqual(len(found["metadata"]["name"]) + 11, 63)

    def test_another_config_starts_the_pod_anew(self):
        checksum = lambda *more: of_kind(template(VALUES[0], *more), "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        self.assertEqual(checksum(), checksum())
        self.assertNotEqual(checksum(), checksum("--set", "config.epoch.records=64"))

    @needs("perennial")
    def test_configs_are_valid(self):
        for values in VALUES:
            for found in of_kind(template(values), "ConfigMap"):
                for name, config in found["data"].items():
                    with self.subTest(values.name, config=name), tempfile.TemporaryDirectory() as folder:
                        path = Path(folder) / name
                        path.write_text(config)
                        run("perennial", "validate", "--config-only", path)

    def test_wrong_values_are_refused(self):
        for setting, expected in [
            ("persistance.enabled=true", "persistance"),
            ("workers=0", "workers"),
            ("persistence.accessMode=ReadWriteMany", "accessMode"),
            ("image.digest=abc", "digest"),
            ("shards[0].name=A B", "shards"),
            ("config=", "config"),
        ]:
            with self.subTest(setting):
                arguments = [program("helm"), "template", "release", CHART, "--values", VALUES[0], "--set", setting]
                ended = subprocess.run(arguments, capture_output=True, text=True)
                self.assertNotEqual(ended.returncode, 0, ended.stdout)
                self.assertIn(expected, ended.stderr)


if __name__ == "__main__":
    unittest.main()
