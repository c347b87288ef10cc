# ok: changes what the kernel lets be changed of the processes that it sees
import glob
import os

for name in glob.glob("/proc/[0-9]*/*") + glob.glob("/proc/sys/*/*"):
    if os.path.isfile(name) and not name.endswith(("/mem", "/clear_refs", "/comm")):
        for text in ("-1000", "0", "1", "deny", "0 0 1"):
            try:
                with open(name, "w") as file:
                    file.write(text)
            except (OSError, ValueError):
                pass
for name in ("uid_map", "gid_map", "setgroups"):
    if open(f"/proc/self/{name}").read().split() == ["0", "0", "1"]:
        print("ESCAPED", name)
if int(open("/proc/self/oom_score_adj").read()) < 0:
    print("ESCAPED")
