# ok: links out of its folder, and links in a circle
import json
import os

host = json.load(open("host.json"))
os.symlink(os.path.dirname(host["marker"]), "out")
os.symlink(host["secret"], "secret")
os.symlink("round", "round")
os.symlink("/proc/1/root", "root")
for name in ("out/" + os.path.basename(host["marker"]), "root" + host["marker"]):
    try:
        open(name, "w").write("marker")
        print("ESCAPED", name)
    except OSError:
        pass
for name in ("secret", "round", "root" + host["secret"]):
    try:
        print("ESCAPED", open(name).read())
    except OSError:
        pass
try:
    os.link(host["secret"], "hard")
    print("ESCAPED")
except OSError:
    pass
