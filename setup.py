"""What setup.cfg cannot say: packages of two folders. `omega` is the formula's own, which Salt takes from `_utils`."""

from setuptools import find_packages, setup

FOLDERS = {"rpiomega": "bootstrap", "omega": "_utils"}

setup(
    package_dir={name: f"{folder}/{name}" for name, folder in FOLDERS.items()},
    packages=[
        found for name, folder in FOLDERS.items() for found in find_packages(folder, include=[name, f"{name}.*"])
    ],
)
