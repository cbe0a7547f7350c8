from setuptools import find_packages, setup

package_name = "tractor_calibration"

setup(
    name=package_name,
    version="0.1.0",
    description="Makes and checks calibration samples, converts ONNX actors to RKNN models.",
    license="Apache-2.0",
    maintainer="Rover suite maintainers",
    maintainer_email="maintainers@rover-suite.example.org",
    packages=find_packages(exclude=["test"]),
    package_data={"": ["*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "check=tractor_calibration.check:main",
            "convert=tractor_calibration.convert:main",
            "harvest=tractor_calibration.harvest:main",
            "models=tractor_calibration.models:main",
        ],
    },
)
