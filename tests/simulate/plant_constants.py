"""The constants that the tests of the physics share: those of the plant itself."""

from pathlib import Path

from slurm_power.simulate.constants import load_constants

PLANT_FILE = Path(__file__).parents[2] / "containers" / "plant" / "plant.toml"
CONSTANTS = load_constants(PLANT_FILE)
