"""What pyproject.toml cannot say: conf/ stays at the top level of the repository and is installed as ssl_mi/conf."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ssl_mi", "ssl_mi.*"]), "ssl_mi.conf"],
    package_dir={"ssl_mi.conf": "conf"},
    package_data={"ssl_mi": ["py.typed"], "ssl_mi.report": ["assets/*"], "ssl_mi.conf": ["*.yaml", "**/*.yaml"]},
)
