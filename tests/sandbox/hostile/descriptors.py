# ok: looks for files that were left open for it
import os

for name in os.listdir("/proc/self/fd"):
    try:
        to = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    if int(name) > 2 and "/proc/" not in to:
        print("ESCAPED", name, to)
