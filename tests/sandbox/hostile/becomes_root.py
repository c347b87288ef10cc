# ok: asks for root in every way it knows
import ctypes
import os
import subprocess

for change in (os.setuid, os.setgid, os.seteuid, os.setegid):
    try:
        change(0)
        print("ESCAPED", change)
    except OSError:
        pass
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["mount", "-t", "tmpfs", "x", "/usr"],
                ["chmod", "u+s", "/usr/bin/python3"], ["unshare", "-r", "id"]):  # fmt: skip
    try:
        ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
        if ran.returncode == 0:
            print("ESCAPED", command)
    except OSError:
        pass
if ctypes.CDLL(None).prctl(38, 0, 0, 0, 0) == 0:
    print("ESCAPED")
