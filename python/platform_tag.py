"""Tags the wheel with the platform of the programs in it."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlatformTag(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        # Such as manylinux_2_36_x86_64: the C library and the machine that the programs need.
        build_data["tag"] = f"py3-none-{os.environ['PERENNIAL_PLATFORM']}"
