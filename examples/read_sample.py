"""Read calibration samples.

.venv/bin/python examples/read_sample.py calibration_data
"""

import sys

from tractor_core import SampleError, list_samples, load_contract, read_sample

contract = load_contract("config/sac_rover.yaml")
for file in list_samples(sys.argv[1]):
    try:
        sample = read_sample(file, contract)
    except SampleError as error:
        print(error)
        continue
    lidar, depth = (int((channel > 0).sum()) for channel in sample.bev)
    features = dict(zip(contract.proprio_names, sample.proprio.round(3).tolist()))
    print(f"{file.name}: {lidar} cells of the LiDAR, {depth} of the camera, {features}")
