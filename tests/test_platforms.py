from __future__ import annotations

import subprocess
import sys

POSIX_MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty")
IMPORT_ALL = f"""
import builtins, importlib, pkgutil

def restricted(name, globals=None, *others, **keywords):
    if name in {POSIX_MODULES} and (globals or {{}}).get("__name__", "").startswith("whisper_server"):
        raise ImportError(f"{{globals['__name__']}} imports {{name}}, which Windows lacks")
    return unrestricted(name, globals, *others, **keywords)

unrestricted, builtins.__import__ = builtins.__import__, restricted
import whisper_server
names = [module.name for module in pkgutil.walk_packages(whisper_server.__path__, "whisper_server.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def test_all_modules_can_be_imported_without_those_that_windows_lacks() -> None:
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 100
