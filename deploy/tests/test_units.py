"""The unit of systemd and the Dockerfile, by the tools of their own projects."""

import tempfile
import unittest
from pathlib import Path

from tools import CHECKOUT, needs, run

UNIT = CHECKOUT / "deploy/systemd/perennial@.service"


class Units(unittest.TestCase):
    @needs("systemd-analyze")
    def test_the_unit_is_sound_and_closed(self):
        with tempfile.TemporaryDirectory() as folder:
            # An instance, whose programs exist on any machine.
            unit = Path(folder) / "perennial@rooms.service"
            unit.write_text(UNIT.read_text().replace("/usr/bin/perennial", "/bin/true"))
            found = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
            self.assertEqual(found.stderr, "")
            # From 0 (closed) to 100: what the service could do if it were taken over.
            run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)

    @needs("hadolint")
    def test_the_dockerfile_follows_the_rules(self):
        docker = CHECKOUT / "deploy/docker"
        run("hadolint", "--config", docker / ".hadolint.yaml", docker / "Dockerfile")


if __name__ == "__main__":
    unittest.main()
