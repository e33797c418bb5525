"""Maps the top-level folders components/ and pipelines/ to visionloop.components and visionloop.pipelines."""

from setuptools import find_packages, setup

FOLDERS = ("components", "pipelines")

setup(
    packages=[
        f"visionloop.{name}"
        for folder in FOLDERS
        for name in (folder, *(f"{folder}.{sub}" for sub in find_packages(folder)))
    ],
    package_dir={f"visionloop.{folder}": folder for folder in FOLDERS},
    package_data={"": ["*.html", "templates/*.html", "*.json", "*.md", "*.yaml", "py.typed"]},
)
