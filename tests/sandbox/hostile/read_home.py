# ok: reads homes, keys, passwords and what else is kept on a machine
import glob
import json
import os

host = json.load(open("host.json"))
for name in (host["secret"], "/etc/shadow", "/etc/passwd", "/root", "/home", "/work", "/var/run",
             "/sys", "/mnt", "/opt", "/run", "/proc/kcore", "/dev/mem", "/boot"):  # fmt: skip
    try:
        print("ESCAPED", name, os.listdir(name) if os.path.isdir(name) else open(name).read(100))
    except OSError:
        pass
for pattern in ("/proc/[0-9]*/root", "/proc/[0-9]*/cwd", "/proc/[0-9]*/fd/*"):
    for name in glob.glob(pattern):
        secret = f"{name}/{host['secret']}"
        if os.path.exists(secret):
            print("ESCAPED", secret)
