from setuptools import find_packages, setup

package_name = "tractor_inference"

setup(
    name=package_name,
    version="0.1.0",
    description="Models, recording, guard and nodes that drive the rover.",
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
            "bev_builder=tractor_inference.nodes.bev_builder_node:main",
            "sac_actor=tractor_inference.nodes.sac_actor_node:main",
            "drive=tractor_inference.nodes.drive_node:main",
            "cmd_guard=tractor_inference.nodes.cmd_guard_node:main",
            "benchmark=tractor_inference.__main__:benchmark",
            "doctor=tractor_inference.__main__:doctor",
        ],
    },
)
