from setuptools import find_packages, setup

package_name = "tractor_link"

setup(
    name=package_name,
    version="0.1.0",
    description="Experience to the training server, and models back: NATS JetStream.",
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
        "console_scripts": ["rover_link=tractor_link.nodes.rover_link_node:main"],
    },
)
