import os
from pathlib import Path

from setuptools import find_packages, setup

# After setuptools, which brings it where Python has none; colcon takes its own from the same place.
from distutils.command.install_data import install_data  # isort: skip

package_name = "tractor_bringup"


def files(pattern):
    """List the files of this package; launch/ and config/ are links to the top-level folders."""
    # is_file, because a renamed file leaves a dangling link in the build folder.
    found = sorted(str(path) for path in Path().glob(pattern) if path.is_file())
    if not found:
        raise RuntimeError(
            f"{package_name}: expected files at {Path(pattern).absolute()}, found none; "
            "check out the repository with symbolic links"
        )
    return found


class InstallData(install_data):
    """Note in the copies which checkout they are of, so that an edited one is noticed.

    See tractor_core/paths.py. A build with --symlink-install links instead, without this.
    """

    def run(self):
        super().run()
        checkout = Path(__file__).resolve().parents[2]
        record = Path(self.install_dir, "share", package_name, "checkout.txt")
        record.write_text(
            f"{checkout}\n{os.path.relpath(checkout, self.install_dir)}\n", encoding="utf-8"
        )
        self.outfiles.append(str(record))


setup(
    name=package_name,
    version="0.1.0",
    description="Launch files, parameters and start scripts of the rover suite.",
    license="Apache-2.0",
    maintainer="Rover suite maintainers",
    maintainer_email="maintainers@rover-suite.example.org",
    packages=find_packages(exclude=["test"]),
    package_data={"": ["*.html", "*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", files("launch/*.launch.py")),
        (f"share/{package_name}/config", files("config/*")),
        (f"lib/{package_name}", files("scripts/*.sh")),
    ],
    cmdclass={"install_data": InstallData},
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "benchmark=tractor_bringup.benchmark:main",
            "doctor=tractor_bringup.doctor:main",
        ],
    },
)
