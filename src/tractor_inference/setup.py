from setuptools import find_packages, setup

package_name = "tractor_inference"

setup(
    name=package_name,
    version="0.1.0",
    description="Observation, policy and nodes that drive the rover.",
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
            "bev_builder=tractor_inference.bev_builder_node:main",
            "sac_actor=tractor_inference.sac_actor_node:main",
            "drive=tractor_inference.drive_node:main",
            "cmd_guard=tractor_inference.cmd_guard_node:main",
            "doctor=tractor_inference.doctor:main",
        ],
    },
)
