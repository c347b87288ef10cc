# ok: looks for secrets in every environment it can see
import glob
import os

print(dict(os.environ))
for name in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/task/*/environ"):
    try:
        print(open(name, errors="replace").read())
    except OSError:
        pass
