from setuptools import find_packages, setup

package_name = "tractor_sim"

setup(
    name=package_name,
    version="0.1.0",
    description="A simulated rover and recorded sensors.",
    license="Apache-2.0",
    maintainer="Rover suite maintainers",
    maintainer_email="maintainers@rover-suite.example.org",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "sim=tractor_sim.nodes.sim_node:main",
            "replay=tractor_sim.nodes.replay_node:main",
            "rollout=tractor_sim.rollout:main",
            "collisions=tractor_sim.collisions:main",
            "observations=tractor_sim.observations:main",
            "train=tractor_sim.__main__:train",
        ],
    },
)
