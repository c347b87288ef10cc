# ok: writes wherever a write would last
import json

host = json.load(open("host.json"))
for name in (host["marker"], "/usr/marker", "/etc/ld.so.preload", "/marker", "/dev/marker",
             "/usr/bin/python3", "/etc/ld.so.cache", "/proc/sys/kernel/core_pattern",
             "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger",
             "/proc/self/uid_map", "/sys/fs/cgroup/marker"):  # fmt: skip
    try:
        with open(name, "r+b" if name.startswith("/usr/bin") else "wb") as file:
            file.write(b"marker")
        print("ESCAPED", name)
    except OSError:
        pass
