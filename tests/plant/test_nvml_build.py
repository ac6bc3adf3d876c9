"""The C of the simulated NVML library: sanitizers, exported names, its interface and the real header's."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from containers.plant.nvml_control import SOURCE_FOLDER, build_library
from tests.plant.nvml_bench import H100


def test_c_is_clean_under_the_sanitizers(tmp_path: Path) -> None:
    constants, program = tmp_path / "constants", tmp_path / "exercise"
    constants.write_text(H100.as_text())
    sources = sorted(SOURCE_FOLDER.glob("*.c"))
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined"]
    command += ["-fno-sanitize-recover=all", f"-I{SOURCE_FOLDER}", "-o", str(program)]
    command += [str(source) for source in (Path(__file__).with_name("nvml_exercise.c"), *sources)]
    subprocess.run([*command, "-lpthread", "-lm"], check=True)
    result = subprocess.run(
        [str(program), str(tmp_path / "state"), str(constants)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_makefile_builds_the_same_library(tmp_path: Path) -> None:
    made = tmp_path / "made.so"
    subprocess.run(["make", "-s", "-C", str(SOURCE_FOLDER), f"OUT={made}"], check=True)
    built = build_library(tmp_path)
    names = [
        subprocess.run(
            ["nm", "-D", "--defined-only", "-P", str(library)], capture_output=True, text=True, check=True
        ).stdout
        for library in (made, built)
    ]
    exported = [{line.split()[0] for line in text.splitlines()} for text in names]
    assert exported[0] == exported[1]
    assert all(name.startswith(("nvml", "plant_")) for name in exported[0])


def real_header_folder() -> Path | None:
    """Find the nvml.h of the PyPI package nvidia-nvml-dev, or the one that NVML_INCLUDE names."""
    named = os.environ.get("NVML_INCLUDE")
    if named:
        return Path(named)
    found = importlib.util.find_spec("nvidia")
    for root in found.submodule_search_locations or () if found else ():
        for header in Path(root).glob("**/nvml.h"):
            return header.parent
    return None


SIZES = """
#include <stddef.h>
#include <stdio.h>
#include "nvml_types.h"
#define SIZE(type) printf(#type " %zu\\n", sizeof(type))
#define PLACE(type, field) printf(#type "." #field " %zu\\n", offsetof(type, field))
int main(void) {
    SIZE(nvmlFieldValue_t); SIZE(nvmlUtilization_t); SIZE(nvmlMemory_t); SIZE(nvmlMemory_v2_t);
    SIZE(nvmlPciInfo_t); SIZE(nvmlProcessInfo_t); SIZE(nvmlProcessInfo_v2_t); SIZE(nvmlTemperature_t);
    SIZE(nvmlPowerValue_v2_t); SIZE(nvmlReturn_t); SIZE(nvmlValue_t);
    PLACE(nvmlFieldValue_t, timestamp); PLACE(nvmlFieldValue_t, nvmlReturn); PLACE(nvmlFieldValue_t, value);
    PLACE(nvmlMemory_t, used); PLACE(nvmlMemory_v2_t, free); PLACE(nvmlMemory_v2_t, reserved);
    PLACE(nvmlPciInfo_t, busId); PLACE(nvmlPciInfo_t, pciDeviceId); PLACE(nvmlProcessInfo_t, usedGpuMemory);
    PLACE(nvmlPowerValue_v2_t, powerScope); PLACE(nvmlPowerValue_v2_t, powerValueMw);
    PLACE(nvmlTemperature_t, temperature);
    printf("%u %u %u\\n", nvmlMemory_v2, nvmlTemperature_v1, nvmlPowerValue_v2);
    printf("%d %d %d %d %d\\n", NVML_FI_DEV_PERF_POLICY_POWER, NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
           NVML_FI_DEV_POWER_INSTANT, NVML_FI_DEV_POWER_REQUESTED_LIMIT,
           NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN);
    printf("%d %d %d %d\\n", NVML_ERROR_GPU_IS_LOST, NVML_ERROR_NO_PERMISSION, NVML_ERROR_DRIVER_NOT_LOADED,
           NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    return 0;
}
"""


def test_abi_is_that_of_the_real_header(tmp_path: Path) -> None:
    """Every NVML function compiled against its true prototype, every layout measured against the true one."""
    folder = real_header_folder()
    if folder is None:
        pytest.skip("nvml.h is not installed (PyPI package nvidia-nvml-dev, or NVML_INCLUDE)")
    subprocess.run(["make", "-s", "-C", str(SOURCE_FOLDER), "check", f"NVML_INCLUDE={folder}"], check=True)
    (tmp_path / "sizes.c").write_text(SIZES)
    told = []
    for name, options in (("ours", []), ("theirs", ["-DPLANT_REAL_NVML_HEADER", "-isystem", str(folder)])):
        program = tmp_path / name
        command = ["cc", f"-I{SOURCE_FOLDER}", *options, "-o", str(program), str(tmp_path / "sizes.c")]
        subprocess.run(command, check=True)
        told.append(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)
    assert told[0] == told[1]
