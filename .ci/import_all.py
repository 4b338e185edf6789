"""Import every module of ssl_mi: what a system lacks shows here, with the module's name."""

import importlib
import pkgutil

import ssl_mi

names = [module.name for module in pkgutil.walk_packages(ssl_mi.__path__, "ssl_mi.")]
for name in names:
    if not name.endswith(".__main__"):
        print(name, flush=True)
        importlib.import_module(name)
print(f"{len(names)} modules")
